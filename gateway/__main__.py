"""`gateway`: the command line. Each verb is one module in gateway.cli, imported when it is called."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module

VERBS = {
    "run": "run the agent: poll the devices, store the readings, publish them",
    "check": "check a site file: every problem with its line, and what to do",
    "read": "ask a device now, or look at raw registers of any unit",
    "write": "set a point of a device, and see whether the device holds it",
    "watch": "the values of the devices as they come",
    "scan": "find the devices on a line: their speed, their addresses and what they are",
    "trace": "show every request and answer on a line, or capture them for Wireshark",
    "plan": "show every request the agent will send, and how busy each bus will be",
    "demo": "a small city quarter on this machine: simulated devices, broker, agent, IOC",
    "store": "what waits for the IOC: look at it, check it, carry it on a stick",
    "simulate": "answer like field devices, on serial lines and TCP",
    "ioc": "what the IOC sees: the readings as they arrive, and what is missing of them",
    "version": "print the version",
}


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Exit code: 0 success, 1 failure, 2 wrong usage or config."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="gateway", description="An edge gateway agent for smart-city field devices.", epilog="gateway VERB --help"
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    called = next((word for word in argv if not word.startswith("-")), None)
    for name, text in VERBS.items():
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == called:
            verb = import_module(f"gateway.cli.{name}")
            sub.epilog = f"example: {verb.EXAMPLE}"
            verb.arguments(sub)
    args = parser.parse_args(argv)
    try:
        return run(import_module(f"gateway.cli.{args.verb}"), args)
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing in ("gateway", "drivers", "firmware_tools"):
            raise
        extra = "ioc" if args.verb == "ioc" else "agent"
        print(f"gateway: {missing} is not installed: `pip install 'smart-city-gateway[{extra}]'`", file=sys.stderr)
        return 1


def run(verb: object, args: argparse.Namespace) -> int:
    """Call the verb; a foreseeable failure becomes a sentence on stderr."""
    from gateway.errors import ConfigError, Declined, GatewayError

    try:
        return int(verb.main(args))  # type: ignore[attr-defined]
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except GatewayError as error:
        print(f"gateway: {error}", file=sys.stderr)
        return 2 if isinstance(error, Declined) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) has left: nothing more to say, and nothing to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(main())
