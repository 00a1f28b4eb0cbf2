function attention(root, data, say) {
  let { layer, head, query } = data, key = null
  const [lookers, looked] = root.querySelectorAll('[role=grid]')
  const veils = [...root.querySelectorAll('.tm-veil')]
  const row = i => data.weights[layer][head][i].map(value => value / 10000)
  const keysOf = values => Math.exp(-values.reduce((sum, w) => sum + (w > 0 ? w * Math.log(w) : 0), 0))

  function sentence(i) {
    const values = row(i), where = `layer ${layer + 1}, ` + (head ? `head ${head - 1}` : 'mean of heads')
    if (!values.some(Boolean)) return `${data.tokens[i]} looks at nothing in ${where}.`
    const [first, second] = values.map((_, j) => j).sort((a, b) => values[b] - values[a] || a - b)
    const then = second !== undefined && values[second] ? `, then ${data.keys[second]} (${share(values[second])}).` : '.'
    return `${data.tokens[i]} looks at ${rounded(keysOf(values), 1)} of ${values.length} keys in ${where}: most at ${data.keys[first]}` +
      ` (${share(values[first])})${then}`
  }

  function mark(table, cell, pinned) {
    const here = table.querySelector('.tm-here')
    if (cell) {
      const box = cell.querySelector('rect')
      for (const side of ['width', 'height']) here.setAttribute(side, box.getAttribute(side))
      for (const side of ['x', 'y']) here.setAttribute(side, box.getAttribute(side) || 0)
    }
    frame(here, cell, pinned)
  }

  function draw() {
    const values = row(query), most = Math.max(...values), patches = values.slice(values.length - veils.length), largest = Math.max(...patches)
    who.cells.flat().forEach((cell, i) => {
      const theirs = row(i)
      cell.setAttribute('aria-selected', i === query)
      cell.lastElementChild.textContent = theirs.some(Boolean) ? rounded(keysOf(theirs), 1) : 'none'
    })
    whom.cells.flat().forEach((cell, j) => {
      const step = level(values[j], 0, most), small = cell.lastElementChild
      cell.style.color = data.inks[step]
      cell.querySelector('rect').setAttribute('fill', data.colors[step])
      cell.firstElementChild.textContent = `${data.keys[j]}: ${share(values[j])}`
      small.textContent = veils.length && j < values.length - veils.length ? `class ${rounded(100 * values[j], 1)}` : rounded(100 * values[j], data.digits)
    })
    veils.forEach((veil, i) => veil.setAttribute('fill-opacity', largest ? rounded(0.9 * (1 - patches[i] / largest), 2) : 0.9))
    say.textContent = sentence(query) + (key === null ? '' : ` ${data.keys[key]}: ${share(values[key])}.`)
  }
  const place = (cells, at) => at && cells.flat().indexOf(cells[at[0]][at[1]])
  const who = grid(lookers, (at, pinned) => {
    query = at ? place(who.cells, at) : data.query
    mark(lookers, at && who.cells[at[0]][at[1]], pinned)
    draw()
  })
  const whom = grid(looked, (at, pinned) => {
    key = place(whom.cells, at)
    mark(looked, at && whom.cells[at[0]][at[1]], pinned)
    draw()
  })
  choice(root, 'layer', value => { layer = Number(value); draw() })
  choice(root, 'head', value => { head = Number(value); draw() })
}
