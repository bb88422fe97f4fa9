"""python -m lab start | fetch | demo | pretrain | merge | bench | doctor"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import __version__
from .errors import LabError


def build_parser() -> argparse.ArgumentParser:
    """The command line. Each command's function is imported when it is called."""
    parser = argparse.ArgumentParser(prog="python -m lab", description="RLHF Lab")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    start = commands.add_parser("start", help="open JupyterLab on the first notebook")
    start.add_argument("--no-browser", action="store_true", help="print the address instead")
    start.add_argument("--port", type=int, help="the port of JupyterLab (8888 or the next free)")

    fetch = commands.add_parser("fetch", help="put a model on this disk")
    fetch.add_argument("model", nargs="?", default="smollm2", help="name, hub id or folder")

    demo = commands.add_parser("demo", help="the whole loop in a terminal, with a simulated rater")
    demo.add_argument("--model", default="smollm2")
    raters = "cheerful, brief, helpful, honest, harmless or agreeable"
    demo.add_argument("--rater", default="cheerful", help=raters)
    demo.add_argument("--rankings", type=int, default=40)
    demo.add_argument("--updates", type=int, default=25)
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--out", default="runs/demo", help="the folder of the study")

    pretrain = commands.add_parser("pretrain", help="make the model `pocket` from nothing")
    pretrain.add_argument("--out", default="runs/pocket", help="a folder; it resumes what is there")
    pretrain.add_argument("--updates", type=int, default=3600)
    pretrain.add_argument("--documents", type=int, default=60_000)
    pretrain.add_argument("--seed", type=int, default=0)

    merge = commands.add_parser("merge", help="studies of several raters become one")
    merge.add_argument("studies", nargs="+", help="the folders of the studies")
    merge.add_argument("--out", required=True, help="the folder of the merged study")

    bench = commands.add_parser("bench", help="what one PPO update costs on this machine")
    bench.add_argument("--model", default="smollm2")
    bench.add_argument("--batch", type=int, default=16, help="rollouts an update")
    bench.add_argument("--tokens", type=int, default=24, help="new tokens of each rollout")
    bench.add_argument("--epochs", type=int, default=2)
    bench.add_argument("--trainable", default="auto", help="auto, a number of layers, or all")
    bench.add_argument("--updates", type=int, default=5, help="counted after one warm-up")
    bench.add_argument("--seed", type=int, default=0)
    bench.add_argument("--against", choices=["trl"], help="take turns with TRL's PPOTrainer")
    bench.add_argument("--lora", action="store_true", help="with TRL: once more with LoRA")
    bench.add_argument("--grow", action="store_true", help="also how the costs grow")
    bench.add_argument(
        "--learn", type=int, default=0, metavar="UPDATES", help="with TRL: also the reward gained"
    )
    bench.add_argument("--quick", action="store_true", help="two updates, small sizes")
    bench.add_argument("--json", metavar="FILE", help="write the figures here")

    commands.add_parser("doctor", help="what is installed, what is missing, what mends it")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command. An error of the lab's own is a message, not a traceback."""
    arguments = vars(build_parser().parse_args(argv))
    command = arguments.pop("command")
    try:
        if command == "start":
            from .start import start

            return start(browser=not arguments["no_browser"], port=arguments["port"])
        if command == "fetch":
            from .catalog import fetch

            folder = fetch(arguments["model"])
            print(f"{folder.name}: {folder.source}, in {folder.path}")
            return 0
        if command == "demo":
            from .demo import demo

            demo(**arguments)
            return 0
        if command == "pretrain":
            from .make_pocket import make_pocket

            make_pocket(**arguments)
            return 0
        if command == "merge":
            from .merge import merge, show

            out = Path(arguments["out"])
            show(merge(arguments["studies"], out), out)
            return 0
        if command == "bench":
            from .bench import bench

            bench(**arguments)
            return 0
        from .doctor import doctor

        return doctor()
    except LabError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
