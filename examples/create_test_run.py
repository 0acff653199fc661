"""Log a run of made-up curves: something to look at while it grows.

python examples/create_test_run.py --total-steps 200 --sleep 0.2
"""

from __future__ import annotations

import argparse
import math
import random
import time

import runicorn as rn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--storage", help="storage root (default: as runicorn.init chooses)")
    parser.add_argument("--project", default="demo")
    parser.add_argument("--name", default="dummy-run")
    parser.add_argument("--total-steps", type=int, default=60)
    parser.add_argument("--stages", default="warmup,train,eval", help="comma-separated, in order")
    parser.add_argument("--sleep", type=float, default=0.05, help="seconds between two steps")
    args = parser.parse_args()
    stages = [stage.strip() for stage in args.stages.split(",") if stage.strip()] or [None]

    with rn.init(args.project, args.storage, name=args.name, config=vars(args)) as run:
        print(f"Run {run.id} in {run.run_dir}")
        run.set_primary_metric("accuracy", "max")
        for step in range(1, args.total_steps + 1):
            done = step / args.total_steps
            stage = stages[min(int((step - 1) / args.total_steps * len(stages)), len(stages) - 1)]
            run.log(
                loss=math.exp(-3 * done) + random.uniform(0, 0.05),
                accuracy=1 - 0.9 * math.exp(-4 * done) - random.uniform(0, 0.03),
                learning_rate=0.1 * (1 + math.cos(math.pi * done)) / 2,
                step=step,
                stage=stage,
            )
            if step % 10 == 0 or step == args.total_steps:
                run.log_text(f"step {step}/{args.total_steps} ({stage})")
            time.sleep(args.sleep)
        run.summary({"total_steps": args.total_steps})


if __name__ == "__main__":
    main()
