"""Chapter 11, a day's work: one file a command, each a function that can be called from Python as well.

Read `train` (the main job; `demo` is `train` with its defaults) with `learning` (what every run does at each step), `runs` (how it
begins, goes on and is finished), `terminal` (what it prints), `pictures` and `report`;
`train_towers` (ALBEF and BLIP) with `towers_start`, `capfilt` and `pictures_towers`; `train_blip2` with `blip2_start` and `pictures_blip2`;
`measured` (what is measured of these) and `meanings` (what it is in words), `ablate` (what each loss and each mask is for), `ablate_blip` (what
wrong captions cost), `ablate_albef` (what twin, queue and hard negatives are for) and `compare` (all four side by side). Then what is done with a
model: `opened` (how it is opened), `evaluate`, `classify`, `search`, `caption`; then `masks`, `data` and `check`; then `bench`, whose cases are
`bench_cases` and whose sides `bench_tinymm`, `bench_torch` and `bench_jax` run in processes of their own, timed by `bench_timing` and weighed by
`bench_memory`; `bench_ranks` times steps that ranks share, `bench_batch` and `bench_blocks` weigh what memory can be saved, and `arithmetic`
computes what the paper's scale asks. `replicas` is how a command runs under `mpiexec`; `words` chooses what texts are cut into; `flags` is what the
command line says of each training's
settings. For the course `exercises` writes the students' copies of the notebooks, which `percent` reads, and `web` a page on which they are checked
in the browser: by `web_check`, among the files of `page`; `course_status` shows how far one is, `course_quiz` what to read first, `course_hunt`
writes and grades bug hunts (`hunt_lists`, `hunt_judge`), and `mine` lets the library run on a student's own functions (`own_code`). `commands`,
`commands_train` and `commands_course` declare the command line.
"""
