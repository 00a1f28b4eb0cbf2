// What a Python built for WASI asks of its surroundings, as far as checking exercises needs it: files to read, clocks, chance, and two streams
// to write to. Shims with more (writing, folders, sockets) come from another package index than Python's; these few calls let pip alone make
// the page, and Python gets nothing else: there is nothing that it could write to or send to.
const OK = 0, BADF = 8, NOENT = 44, NOSYS = 52, NOTDIR = 54, ISDIR = 31, READ_ONLY = 69
const CHARACTERS = 2, FOLDER = 3, FILE = 4 // kinds of files
const CREATE = 1, MUST_BE_FOLDER = 2, TRUNCATE = 8, RIGHT_TO_WRITE = 64n
const ROOT = 3 // the first number after stdin, stdout and stderr is the folder /

// `files` maps paths without the first / to bytes; `write(stream, bytes)` gets what is printed; `memory()` is the program's.
export function wasi(files, words, surroundings, write, memory) {
  const open = new Map([[ROOT, { path: '' }]])
  const view = () => new DataView(memory().buffer)
  const bytes = (at, length) => new Uint8Array(memory().buffer, at, length)
  const number = (at, value) => { view().setUint32(at, value, true); return OK }
  const long = (at, value) => { view().setBigUint64(at, BigInt(value), true); return OK }
  const encoded = text => new TextEncoder().encode(text)
  const isFolder = path => path === '' || [...files.keys()].some(name => name.startsWith(path + '/'))

  function find(folder, at, length) {
    const steps = []
    for (const step of (open.get(folder).path + '/' + new TextDecoder().decode(bytes(at, length))).split('/')) {
      if (step === '..') steps.pop()
      else if (step !== '' && step !== '.') steps.push(step)
    }
    const path = steps.join('/')
    return files.has(path) ? { path, data: files.get(path), at: 0 } : isFolder(path) ? { path } : null
  }

  function about(at, kind, size) {
    bytes(at, 64).fill(0)
    view().setUint8(at + 16, kind)
    long(at + 24, 1)
    return long(at + 32, size)
  }

  const aboutFile = (at, file) => about(at, file.data ? FILE : FOLDER, file.data ? file.data.length : 0)

  // Buffers come as a list of (where, how long); `use` takes one and says how many bytes it dealt with.
  function buffers(list, count, out, use) {
    let total = 0
    for (let i = 0; i < count; i++) {
      const [where, length] = [view().getUint32(list + 8 * i, true), view().getUint32(list + 8 * i + 4, true)]
      const done = use(bytes(where, length))
      total += done
      if (done < length) break
    }
    return number(out, total)
  }

  function read(file, place, list, count, out) {
    if (!file) return BADF
    if (!file.data) return ISDIR
    return buffers(list, count, out, into => {
      const part = file.data.subarray(place, place + into.length)
      into.set(part)
      place += part.length
      return part.length
    })
  }

  // Texts that end in 0, one behind the other, and a list of where each begins.
  const sizes = texts => (count, length) => number(count, texts.length) || number(length, texts.reduce((sum, text) => sum + encoded(text).length + 1, 0))
  const put = texts => (list, at) => {
    texts.forEach((text, i) => {
      number(list + 4 * i, at)
      bytes(at, encoded(text).length + 1).set([...encoded(text), 0])
      at += encoded(text).length + 1
    })
    return OK
  }

  const calls = {
    args_sizes_get: sizes(words), args_get: put(words), environ_sizes_get: sizes(surroundings), environ_get: put(surroundings),
    clock_res_get: (clock, out) => long(out, 1000),
    clock_time_get: (clock, precision, out) => long(out, Math.round((clock === 0 ? performance.timeOrigin : 0) * 1000 + performance.now() * 1000) * 1000),
    random_get(at, length) {
      for (let done = 0; done < length; done += 65536) crypto.getRandomValues(bytes(at + done, Math.min(65536, length - done)))
      return OK
    },
    sched_yield: () => OK,
    proc_exit(code) { throw new Error(`Python ended with code ${code}`) },
    fd_prestat_get: (fd, out) => fd === ROOT ? number(out, 0) || number(out + 4, 1) : BADF,
    fd_prestat_dir_name(fd, at) { bytes(at, 1)[0] = 47; return OK }, // "/"
    fd_fdstat_get(fd, out) {
      const file = open.get(fd)
      if (!file && fd > 2) return BADF
      bytes(out, 24).fill(0)
      view().setUint8(out, !file ? CHARACTERS : file.data ? FILE : FOLDER)
      return long(out + 8, 0x1fffffffn) || long(out + 16, 0x1fffffffn)
    },
    fd_filestat_get: (fd, out) => open.has(fd) ? aboutFile(out, open.get(fd)) : fd <= 2 ? about(out, CHARACTERS, 0) : BADF,
    path_filestat_get(fd, flags, at, length, out) {
      const file = find(fd, at, length)
      return file ? aboutFile(out, file) : NOENT
    },
    path_open(fd, flags, at, length, how, rights, inherited, more, out) {
      const file = find(fd, at, length)
      if (!file) return how & CREATE ? READ_ONLY : NOENT
      if (how & TRUNCATE || (file.data && rights & RIGHT_TO_WRITE)) return READ_ONLY
      if (how & MUST_BE_FOLDER && file.data) return NOTDIR
      let free = ROOT + 1
      while (open.has(free)) free++
      open.set(free, file)
      return number(out, free)
    },
    fd_close: fd => open.delete(fd) ? OK : BADF,
    fd_read: (fd, list, count, out) => {
      if (fd === 0) return number(out, 0)
      const file = open.get(fd), result = read(file, file && file.at, list, count, out)
      if (result === OK) file.at += view().getUint32(out, true)
      return result
    },
    fd_pread: (fd, list, count, place, out) => read(open.get(fd), Number(place), list, count, out),
    fd_seek(fd, by, from, out) {
      const file = open.get(fd)
      if (!file || !file.data) return BADF
      file.at = [0, file.at, file.data.length][from] + Number(by)
      return long(out, file.at)
    },
    fd_tell: (fd, out) => open.has(fd) ? long(out, open.get(fd).at) : BADF,
    fd_write: (fd, list, count, out) => fd !== 1 && fd !== 2 ? READ_ONLY : buffers(list, count, out, part => { write(fd, part.slice()); return part.length }),
    fd_readdir(fd, at, length, cookie, out) {
      const folder = open.get(fd), front = folder && folder.path ? folder.path + '/' : ''
      if (!folder || folder.data) return NOTDIR
      const names = [...new Set([...files.keys()].filter(path => path.startsWith(front)).map(path => path.slice(front.length).split('/')[0]))]
      let used = 0
      for (let i = Number(cookie); i < names.length && used < length; i++) {
        const name = encoded(names[i]), entry = new Uint8Array(24 + name.length), fields = new DataView(entry.buffer)
        fields.setBigUint64(0, BigInt(i + 1), true)
        fields.setUint32(16, name.length, true)
        fields.setUint8(20, files.has(front + names[i]) ? FILE : FOLDER)
        entry.set(name, 24)
        const part = entry.subarray(0, length - used)
        bytes(at + used, part.length).set(part)
        used += part.length
      }
      return number(out, used)
    },
  }
  // What is left would write or wait; a program that tries hears so.
  return name => calls[name] || (() => name.startsWith('path_') ? READ_ONLY : NOSYS)
}
