"""How many pictures each method needs to learn the paper's tasks on Toy Faces, and at what price.

    python3 scripts/bench.py learn plan                 every missing cell and what it costs
    python3 scripts/bench.py learn tune --task blue     learning rates, on seeds of their own
    python3 scripts/bench.py learn final --task blue    the cells that count, at the tuned rates
    python3 scripts/bench.py learn large --task blue    cells of those again, in 2,048 pictures
    python3 scripts/bench.py learn report               learn.json, plots and the tables in the docs
    python3 scripts/bench.py learn judge                train the held-out judge again
    python3 scripts/bench.py learn precision            what bfloat16 changes, and what it saves

A cell is one run (task, method, rate, batch, seed). Finished cells are appended to
benchmarks/results/learn_raw/<task>.jsonl and never computed twice: stop and go on at any time.
"""

from benchmarks.learn.command import main

if __name__ == "__main__":
    raise SystemExit(main())
