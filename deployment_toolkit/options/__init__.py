"""Options of commands: dataclasses to argparse and back, mappings to dataclasses."""
