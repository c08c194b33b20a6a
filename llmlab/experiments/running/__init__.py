"""Carrying out a sweep: here, in worker processes, or through any `concurrent.futures.Executor`.

`plan.py` says what is to be run, `agenda.py` what comes next, `perform.py` is what is done with a run wherever that is,
and `executors.py` decides where. `worker_pool.py` has the processes (`worker_process.py` is the program in them).
`sink.py` is where runs are kept, `sweep_run.py` puts all together, and `carry_out.py` goes through it. Results never
depend on where, or beside what, a run was made: its seed decides.

It is imported module by module: a worker process needs few of them.
"""
