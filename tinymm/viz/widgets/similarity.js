function similarity(root, data, say) {
  let which = 'after', shown = 'cosine', scale = data.at, at = null
  const n = data.captions.length, range = [...Array(n).keys()], KINDS = ['own', 'also', 'wrong']
  const image = root.querySelector('img'), pictures = [...root.querySelectorAll('image')]
  const kind = (i, j) => data.hardest[which][i] === j ? 'hard' : KINDS[data.kinds[i][j]]

  function softmax(values) {
    const largest = Math.max(...values), all = values.map(value => Math.exp(value - largest)), sum = all.reduce((a, b) => a + b)
    return all.map(value => value / sum)
  }
  let rows, columns
  function compute() {
    const scores = data.matrices[which].map(row => row.map(value => value * data.scales[scale]))
    rows = scores.map(softmax)
    const down = range.map(j => softmax(scores.map(row => row[j])))
    columns = range.map(i => range.map(j => down[j][i]))
    // the logarithm of the softmax in one piece: a probability that is rounded to 0 would cost infinitely much
    const log = (values, i) => values[i] - Math.max(...values) - Math.log(values.reduce((sum, v) => sum + Math.exp(v - Math.max(...values)), 0))
    return -range.reduce((sum, i) => sum + log(scores[i], i) + log(scores.map(row => row[i]), i), 0) / (2 * n)
  }

  const cells = grid(root.querySelector('[role=grid]'), (where, pinned) => {
    at = where
    frame(root.querySelector('.tm-here'), at && cells[at[0]][at[1]], pinned)
    cells.flat().forEach(cell => cell.setAttribute('aria-selected', Boolean(pinned && at && cell === cells[at[0]][at[1]])))
    speak()
  }).cells

  function sentence(i, j) {
    return `“${data.captions[i]}” and the picture of “${data.captions[j]}”: cosine ${rounded(data.matrices[which][i][j], 2)}.` +
      ` At scale ${data.names[scale]} the caption gives the picture ${share(rows[i][j])}` +
      `, and the picture gives the caption ${share(columns[i][j])}.${data.words[kind(i, j)]}`
  }
  function speak() {
    image.hidden = !at
    if (at) image.src = pictures[at[1]].getAttribute('href')
    say.textContent = at ? sentence(...at) : data.overall[which]
  }
  function bar(group, value) {
    group.children[1].setAttribute('width', (group.dataset.wide * value).toFixed(2))
    group.lastElementChild.textContent = share(value)
  }
  function draw() {
    const loss = compute(), numbers = { cosine: data.matrices[which], rows, columns }[shown]
    const [low, high] = shown === 'cosine' ? [data.low, data.high] : [0, 1]
    cells.forEach((line, i) => line.forEach((cell, j) => {
      const value = numbers[i][j], step = level(value, low, high)
      cell.setAttribute('class', `tm-number tm-${kind(i, j)}`)
      cell.style.color = data.inks[step]
      cell.querySelector('rect').setAttribute('fill', data.colors[step])
      cell.lastElementChild.textContent = shown === 'cosine' ? rounded(value, 2) : share(value)
      cell.firstElementChild.textContent = sentence(i, j)
    }))
    root.querySelectorAll('.tm-p-row').forEach((group, i) => bar(group, rows[i][i]))
    root.querySelectorAll('.tm-p-column').forEach((group, j) => bar(group, columns[j][j]))
    root.querySelector('.tm-loss').textContent =
      `Loss ${rounded(loss, 3)} at scale ${data.names[scale]}; equal scores cost ln ${n} = ${rounded(Math.log(n), 3)}.`
    speak()
  }
  choice(root, 'shown', value => { shown = value; draw() })
  choice(root, 'which', value => { which = value; draw() })
  slider(root, 'scale', value => { scale = value; draw(); return data.said[value] })
  compute()
}
