// The page: loads Python once, gives it to a worker, and asks it for one check at a time.
const status = document.getElementById('status'), progress = document.querySelector('progress')
const sections = [...document.querySelectorAll('main section')], links = [...document.querySelectorAll('nav a')]
const tasks = [...document.querySelectorAll('.task')]
const megabytes = bytes => (bytes / 1e6).toFixed(1)
let worker = null, ready = false, busy = null, loaded = null

const say = words => { status.textContent = words }

// ---------------------------------------------------------------------- Python
// The smallest program with a `try_table`: browsers that cannot catch exceptions of WebAssembly refuse it, before anything large is fetched.
const CATCHES = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 8, 1, 6, 0, 31, 64, 0, 11, 11])

function missing() {
  if (location.protocol === 'file:') return 'Pages opened as files may not load Python. Serve this folder: python -m http.server -d FOLDER, and open the address that it prints.'
  if (!globalThis.WebAssembly || !WebAssembly.validate(CATCHES)) return 'Python needs a browser whose WebAssembly has exception handling (try_table), and this one has none. A newer browser runs the checks; Chromium 156 was tested.'
  if (!globalThis.DecompressionStream) return 'Python comes compressed, and this browser has no DecompressionStream. A newer browser runs the checks.'
}

async function load() {
  const files = JSON.parse(document.getElementById('files').textContent), total = files.reduce((sum, file) => sum + file.bytes, 0)
  let got = 0
  progress.max = total
  say(`Loading Python: ${megabytes(total)} MB. You can read and write meanwhile.`)
  const counted = async ({ name }) => {
    const answer = await fetch(name, { cache: 'no-cache' }) // asked again whether it has changed, not loaded again
    if (!answer.ok) throw new Error(`${name} is missing on the server (${answer.status}); make the folder again`)
    return answer.body.pipeThrough(new TransformStream({ transform(part, out) {
      got += part.length
      progress.value = got
      progress.title = progress.nextElementSibling.textContent = `${megabytes(got)} of ${megabytes(total)} MB`
      out.enqueue(part)
    } }))
  }
  const [program, ...zips] = files
  const compiled = counted(program).then(body => WebAssembly.compileStreaming(
    new Response(body.pipeThrough(new DecompressionStream('gzip')), { headers: { 'content-type': 'application/wasm' } })))
  const read = zips.map(async zip => [zip.path, new Uint8Array(await new Response(await counted(zip)).arrayBuffer())])
  return { module: await compiled, files: await Promise.all(read) }
}

function start(words) {
  ready = false
  say(words)
  const mine = worker = new Worker('worker.js', { type: 'module' })
  worker.onmessage = ({ data }) => {
    if (worker !== mine) return // its last words, after it was ended
    if (data.ready) { ready = true; say('Python is ready.'); show() }
    else if (data.result) finish(data.result)
    else if (busy) restart({ state: 'error', text: `Python itself stopped: ${data.broken}. It was started again; your text is kept.` })
    else say(`Python does not start: ${data.broken}`)
  }
  worker.onerror = event => say(`Python does not start: ${event.message || 'worker.js cannot be loaded'}`)
  worker.postMessage(loaded)
  show()
}

function restart(result) {
  worker.terminate()
  finish(result)
  start('Python starts again …')
}

// ---------------------------------------------------------------------- tasks
const parts = task => ({ code: task.querySelector('textarea'), check: task.querySelector('.check'), stop: task.querySelector('.stop'), result: task.querySelector('.result') })

function show() {
  for (const task of tasks) {
    const { check, stop } = parts(task)
    check.disabled = !ready || busy !== null
    stop.hidden = busy !== task
  }
}

function finish({ state, text }) {
  const { result, stop, check } = parts(busy), task = busy, focused = document.activeElement === stop
  busy = null
  task.dataset.state = state
  result.textContent = text
  show()
  if (focused) check.focus()
}

// A check runs the notebook's first lines, what was written for the tasks before, this task's text, and its checks.
function ask(task) {
  if (!ready || busy) return say(busy ? `The check of ${busy.dataset.task} runs; stop it there, or wait.` : 'Python is not ready yet; what you write is kept.')
  const section = task.closest('section'), mates = [...section.querySelectorAll('.task')]
  busy = task
  task.dataset.state = 'running'
  parts(task).result.textContent = 'The check runs. A program that does not end can be stopped.'
  show()
  worker.postMessage({
    setup: section.querySelector('.setup').textContent,
    before: mates.slice(0, mates.indexOf(task)).map(mate => parts(mate).code.value),
    code: parts(task).code.value,
    checks: [...task.querySelectorAll('.test')].map(test => [test.dataset.name, test.textContent]),
  })
}

// What was written stays in this browser; where it keeps nothing, the page works without.
function keep(name, value) {
  try { return value === undefined ? localStorage.getItem(name) : value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value) } catch { return null }
}

function keys(event, code, task) {
  const escaped = code.dataset.escaped
  delete code.dataset.escaped
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) ask(task)
  else if (event.key === 'Escape') { code.dataset.escaped = 'yes'; return } // the next Tab leaves the box
  else if (event.key === 'Tab' && !event.shiftKey && !escaped) write(code, '    ')
  else if (event.key === 'Enter') {
    const line = code.value.slice(0, code.selectionStart).split('\n').pop()
    write(code, '\n' + line.match(/^ */)[0] + (line.trimEnd().endsWith(':') ? '    ' : ''))
  } else return
  event.preventDefault()
}

function write(code, words) {
  if (!document.execCommand('insertText', false, words)) { // it alone lets Ctrl+Z take the words back, but not every browser has it
    code.setRangeText(words, code.selectionStart, code.selectionEnd, 'end')
    code.dispatchEvent(new Event('input'))
  }
}

for (const task of tasks) {
  const { code, check, stop } = parts(task), name = 'tinymm/' + task.dataset.task, given = code.value
  const fit = () => { code.rows = Math.max(4, code.value.split('\n').length + 1) }
  code.value = keep(name) ?? given
  fit()
  code.addEventListener('input', () => { fit(); keep(name, code.value === given ? null : code.value) })
  code.addEventListener('keydown', event => keys(event, code, task))
  check.addEventListener('click', () => ask(task))
  stop.addEventListener('click', () => restart({ state: 'error', text: 'Stopped. Python starts again; your text is kept.' }))
  task.querySelector('.again').addEventListener('click', () => { code.focus(); code.select(); write(code, given) }) // Ctrl+Z brings it back
}

function turnTo() {
  const wanted = sections.find(section => '#' + section.id === location.hash) || sections.find(section => section.id.startsWith('07')) || sections[0]
  for (const section of sections) section.hidden = section !== wanted
  for (const link of links) link.setAttribute('aria-current', link.hash === '#' + wanted.id ? 'page' : 'false')
}

addEventListener('hashchange', () => { turnTo(); scrollTo(0, 0) })
turnTo()
document.body.dataset.live = ''
const problem = missing()
if (problem) say(problem)
else load().then(found => { loaded = found; document.body.dataset.loaded = ''; start('Python starts …') }, error => say(`Python could not be loaded: ${error.message}`))
