// Shared by all explorers. Whatever is written goes through textContent: the words of others are never read as HTML.
const rounded = (value, digits) => (Math.floor(value * 10 ** digits + 0.5) / 10 ** digits).toFixed(digits)
const share = value => rounded(100 * value, 1) + '%'
const listed = words => words.length > 1 ? words.slice(0, -1).join(', ') + ' and ' + words[words.length - 1] : words[0]
const level = (value, low, high) => Math.floor(63 * Math.min(1, Math.max(0, (value - low) / (high - low || 1))) + 0.5)

function runs(names, where, edges = []) {
  const groups = []
  for (const place of where) {
    const last = groups[groups.length - 1]
    if (last && last[last.length - 1] === place - 1 && !edges.includes(place)) last.push(place)
    else groups.push([place])
  }
  const said = groups.flatMap(g => g.length > 3 ? [names[g[0]] + ' to ' + names[g[g.length - 1]]] : g.map(place => names[place]))
  return said.length ? listed(said) : 'nothing'
}

// A row of buttons: calls back with the value of the one that is pressed.
function choice(root, name, chosen) {
  const group = root.querySelector(`[data-name="${name}"]`)
  for (const button of group ? group.querySelectorAll('button') : []) button.addEventListener('click', () => {
    for (const other of group.querySelectorAll('button')) other.setAttribute('aria-pressed', other === button)
    chosen(button.dataset.value)
  })
  return group
}

// A slider: calls back with its place and shows the words that come back.
function slider(root, name, moved) {
  const input = root.querySelector(`input[data-name="${name}"]`)
  if (input) input.addEventListener('input', () => {
    const said = moved(Number(input.value))
    input.nextElementSibling.textContent = said
    input.setAttribute('aria-valuetext', said)
  })
}

// A grid: the pointer or the focus chooses a cell, arrow keys move, Enter or a click pins it, Escape frees it. `show(at, pinned)` gets
// [row, column], or null where nothing is chosen.
function grid(table, show) {
  const rows = [...table.querySelectorAll('[role=row]')].map(row => [...row.querySelectorAll('[role=gridcell]')]).filter(row => row.length)
  let pin = null, over = null, focus = null
  const draw = () => show(pin || over || focus, pin !== null)
  const rove = cell => rows.flat().forEach(other => other.setAttribute('tabindex', other === cell ? 0 : -1))
  rows.forEach((row, i) => row.forEach((cell, j) => {
    cell.addEventListener('pointerenter', () => { over = [i, j]; draw() })
    cell.addEventListener('focus', () => { focus = [i, j]; if (pin) pin = focus; rove(cell); draw() })
    cell.addEventListener('click', () => { pin = pin && pin[0] === i && pin[1] === j ? null : [i, j]; draw() })
    cell.addEventListener('keydown', event => {
      const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], Home: [0, -row.length], End: [0, row.length] }[event.key]
      if (step) {
        const r = rows[Math.min(rows.length - 1, Math.max(0, i + step[0]))]
        over = null
        r[Math.min(r.length - 1, Math.max(0, j + step[1]))].focus()
      } else if (event.key === 'Enter' || event.key === ' ') { pin = [i, j]; draw() }
      else if (event.key === 'Escape') { pin = over = focus = null; draw() }
      else return
      event.preventDefault()
      event.stopPropagation()
    })
  }))
  table.addEventListener('pointerleave', () => { over = null; draw() })
  table.addEventListener('focusout', event => { if (!table.contains(event.relatedTarget)) { focus = null; draw() } })
  rove(rows[0][0])
  return { cells: rows, redraw: draw }
}

// Puts a frame around a cell, or takes it away.
function frame(mark, cell, pinned) {
  mark.style.visibility = cell ? 'visible' : 'hidden'
  mark.classList.toggle('tm-pinned', Boolean(pinned))
  if (cell) mark.setAttribute('transform', cell.getAttribute('transform'))
}

// Every script wakes all explorers of its kind that are on the page and not awake yet.
function awake(kind, live) {
  for (const root of document.querySelectorAll(`.tm-x[data-kind="${kind}"]:not([data-live])`)) {
    root.dataset.live = ''
    live(root, JSON.parse(root.querySelector('script[type="application/json"]').textContent), root.querySelector('.tm-say'))
  }
}
