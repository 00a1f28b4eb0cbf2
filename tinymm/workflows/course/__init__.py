"""The course: students' copies of the notebooks, a page in the browser, a quiz, bug hunts.

Read `percent` (how the notebooks' sources are read), `exercises` (writes the students' copies) and
`web` (a page on which they are checked in the browser: by `web_check`, among the files of the
folder page). `own_code` runs a student's file; with it `status` shows how far one is, and `mine`
lets the library run on a student's own functions. `quiz` (its questions are in quiz.json) says what
to read first. `hunt` writes and grades bug hunts (`hunt_lists`, `hunt_judge`).
"""
