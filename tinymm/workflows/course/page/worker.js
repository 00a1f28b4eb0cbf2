// Python in a thread of its own: the page stays alive, and a program that does not end is stopped by ending the thread.
import { wasi } from './wasi.js'

const text = { 1: '', 2: '' }
const decoders = { 1: new TextDecoder(), 2: new TextDecoder() }
let program

// The program keeps one interpreter; `turn` runs lines in it, and the last that they print comes back.
function turn(lines) {
  text[1] = text[2] = ''
  const code = new TextEncoder().encode(lines), at = program.host_alloc(code.length)
  new Uint8Array(program.memory.buffer).set(code, at)
  program.turn(at, code.length)
  if (!text[1]) throw new Error(text[2].trim().split('\n').pop())
  return text[1].trim().split('\n').pop() // whatever wrote to the stream before
}

async function start({ module, files }) {
  const write = (stream, part) => { text[stream] += decoders[stream].decode(part, { stream: true }) }
  const answer = wasi(new Map(files), ['python', '-c', ''], ['NO_COLOR=1', 'HOME=/'], write, () => program.memory)
  const imports = { host: { call: () => -1 }, wasi_snapshot_preview1: {} }
  for (const asked of WebAssembly.Module.imports(module)) if (asked.module !== 'host') imports[asked.module][asked.name] = answer(asked.name)
  program = (await WebAssembly.instantiate(module, imports)).exports
  program._initialize()
  turn("import sys; sys.path.insert(0, '/tinymm.zip')\nfrom tinymm.workflows.course.web_check import answer\nprint('ready')")
}

onmessage = async ({ data }) => {
  try {
    if (data.module) {
      await start(data)
      postMessage({ ready: true })
    } else postMessage({ result: JSON.parse(turn(`answer(${JSON.stringify(JSON.stringify(data))})`)) }) // a text in JSON is one in Python, too
  } catch (problem) {
    postMessage({ broken: String(problem.message || problem) }) // the interpreter itself: it is not to be trusted any more
  }
}
