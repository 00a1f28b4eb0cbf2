function masks(root, data, say) {
  const ALLOWED = 1, PADDED = 2, LEAK = 3, KNOWN = 4, IDLE = 5, OUTSIDE = 4
  let { shown, against, layers } = data, at = null
  const one = () => data.sheets[shown], other = () => data.sheets[against || shown]
  const both = (a, b) => a.map((name, i) => name === b[i] ? name : `${name}/${b[i]}`)
  const rows = () => both(one().rows, other().rows), columns = () => both(one().columns, other().columns)
  const open = (sheet, i, j) => [ALLOWED, LEAK, IDLE].includes(Number(sheet.states[i][j]))

  function state(i, j) {
    const own = Number(one().states[i][j])
    if (against) return open(one(), i, j) + 2 * open(other(), i, j) || (own === PADDED ? OUTSIDE : 0)
    const deep = one().depth[i][j]
    return !open(one(), i, j) && !data.padding.includes(i) && deep && deep <= layers ? KNOWN : own
  }
  const words = s => against ? data.sides[s].replace('{a}', one().label).replace('{b}', other().label) : data.words[s].replace('{}', layers)

  function sentence(i) {
    const names = columns(), name = rows()[i], states = names.map((_, j) => state(i, j))
    const where = (...wanted) => runs(names, states.flatMap((s, j) => wanted.includes(s) ? [j] : []), data.edges)
    if (against) return `${name}: ${[3, 1, 2].filter(s => states.includes(s)).map(s => `${words(s)} ${where(s)}`).join('; ') || 'both block all'}.`
    if (data.padding.includes(i)) return `${name} is padding: it may look at ${where(IDLE)}, and nobody reads it.`
    let said = `${name} sees ${where(ALLOWED, LEAK)}.`
    if (states.includes(LEAK)) said += ` ${where(LEAK)} is padding!`
    if (layers > 1) said += ` After ${layers} layers it ` + (states.includes(KNOWN) ? `also knows ${where(KNOWN)}.` : 'knows no more.')
    return said
  }

  const table = root.querySelector('[role=grid]')
  const here = root.querySelector('.tm-here'), row = root.querySelector('.tm-row')
  const cells = grid(table, (where, pinned) => {
    at = where
    frame(here, at && cells[at[0]][at[1]], pinned)
    frame(row, at && cells[at[0]][0], pinned)
    for (const [i, line] of cells.entries()) line[0].parentNode.setAttribute('aria-selected', Boolean(pinned && at[0] === i))
    speak()
  }).cells

  function speak() {
    if (!at) say.textContent = against ? data.apart[`${shown} ${against}`] || 'Nothing differs.' : one().notes[layers - 1]
    else say.textContent = `${sentence(at[0])} ${rows()[at[0]]} → ${columns()[at[1]]}: ${words(state(...at))}.`
  }

  function draw() {
    const depth = root.querySelector('input[data-name=layers]')
    if (depth) depth.disabled = Boolean(against)
    const kind = against ? 'd' : 's', names = columns()
    root.querySelector('.tm-title').textContent = against ? `From ${one().label} to ${other().label}` : one().title
    table.querySelectorAll('.tm-column').forEach((label, j) => { label.textContent = names[j] })
    table.querySelectorAll('.tm-name').forEach((label, i) => { label.textContent = rows()[i] })
    cells.forEach((line, i) => line.forEach((cell, j) => {
      const s = state(i, j)
      cell.setAttribute('class', `tm-cell tm-${kind}${s}`)
      cell.lastElementChild.setAttribute('d', data.marks[kind][s])
      cell.firstElementChild.textContent = `${rows()[i]} → ${names[j]}: ${words(s)}`
    }))
    for (const item of root.querySelectorAll('[data-key]')) {
      const s = Number(item.dataset.key.slice(1)), mine = item.dataset.key[0] === kind
      item.style.display = mine ? '' : 'none'
      if (mine) item.lastElementChild.textContent = words(s)
    }
    speak()
  }
  choice(root, 'shown', value => { shown = value; draw() })
  choice(root, 'against', value => { against = value === shown ? null : value || null; draw() })
  slider(root, 'layers', value => { layers = value; draw(); return `${layers} layer${layers > 1 ? 's' : ''}` })
}
