"""What may stand in a config: one dataclass an option. Imports no torch.

An option is a dataclass that subclasses its group's base class (`Optimizer`, `Model`, `Data`, ...). It carries all that
is known of it: its target, the range of each key, the package that it needs, its checks, and, as the first line of its
docstring, the help line. The schema, the list of what may be called, the package check and `--help` are derived from
these. Every module in this folder is imported when options are looked up, so a new file is enough to add one:

    @dataclass
    class Lion(Optimizer):
        \"\"\"Lion (Chen et al. 2023).\"\"\"

        _target_: str = "cifar.training.lion.Lion"
        beta: float = within("[0, 1)")

fields.py        fields with a range
option.py        the base class of all options, and the registry
data.py ...      the options, one file a group
config.py        all settings of a run
check.py         a composed config -> checked settings, or one error
help.py          the text of --help
command_line.py  resume=, from_study= and from_run=, which add the settings of an earlier start
former.py        what older versions wrote, in today's names
"""
