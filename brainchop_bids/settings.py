"""Settings of one run: a frozen object that is passed down and written to a TOML file."""

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bids.filters import read_filters
from .inference.options import InferenceOptions
from .system.errors import SettingsError
from .system.resources import Granted, available_cpus, available_memory, parse_memory

if TYPE_CHECKING:
    from .image.conform import ConformOptions

# Memory of the App and its fork server, and of one worker; measured, GB.
PROCESSES_GB, WORKER_GB = 0.26, 0.1
# Fields that are not options of the command line.
_INTERNAL = ('notes', 'memory')
_PER_RUN = ('config_file', 'dry_run', 'boilerplate', 'reports_only', 'write_graph')


@dataclass(frozen=True)
class Settings:
    """Settings of a run; the fields are named like the options of the command line.

    Parameters
    ----------
    bids_dir, output_dir : Path
        Folders of the dataset and of the derivatives, absolute.
    analysis_level : str
        ``'participant'`` or ``'group'``.
    participant_label, session_label : tuple of str
        Selected labels, without prefix; empty means all.
    modality : str
        Suffix of the scans, one of `brainchop_bids.bids.names.MODALITIES`.
    bids_filter_file, bids_database_dir, models_dir, use_plugin : Path, optional
        Files and folders given by these options.
    skip_bids_validation, probseg, uncertainty, stop_on_first_crash, clean_workdir : bool
        Whether these options were given.
    frame : int, optional
        Frame of 4-D files, counted from 0.
    intensity_window : str
        See `brainchop_bids.image.conform.ConformOptions`.
    ct : bool
        Whether the scans are CT.
    model : tuple of str
        Names or folders of the models.
    inference : InferenceOptions
        Options of the networks.
    normalization : str, optional
        Normalization of intensities that replaces the model's.
    components : str, optional
        Clean-up rule that replaces the model's.
    label_codes : str
        Values of labels in images and tables, see `LabelTable.values`.
    resample : str
        Interpolation of labels on the scan's own grid.
    localiser : str
        What finds the brain in each scan first: ``'auto'``, ``'none'``, a name or a folder.
    border : float
        Distance in mm by which the brain mask grows, or shrinks if it is negative.
    nprocs, omp_nthreads : int
        Threads of all processes together, and of one process.
    mem : str, optional
        Memory of all processes together, as given on the command line.
    memory : Granted
        Memory of all processes together, and what limits it.
    work_dir : Path
        Folder of intermediate files, absolute.
    dry_run, write_graph, reports_only, viewer, boilerplate : bool
        Whether these options were given.
    verbose : int
        Verbosity, from 0 to 3.
    """

    bids_dir: Path
    output_dir: Path
    analysis_level: str
    model: tuple[str, ...] = ()
    participant_label: tuple[str, ...] = ()
    session_label: tuple[str, ...] = ()
    modality: str = 'T1w'
    bids_filter_file: Path | None = None
    bids_database_dir: Path | None = None
    skip_bids_validation: bool = False
    frame: int | None = None
    intensity_window: str = 'auto'
    ct: bool = False
    models_dir: Path | None = None
    inference: InferenceOptions = field(default_factory=InferenceOptions)
    normalization: str | None = None
    components: str | None = None
    label_codes: str = 'model'
    resample: str = 'linear'
    localiser: str = 'auto'
    border: float = 0.0
    probseg: bool = False
    uncertainty: bool = False
    nprocs: int = 1
    omp_nthreads: int = 1
    mem: str | None = None
    memory: Granted = field(default_factory=available_memory, compare=False)
    use_plugin: Path | None = None
    work_dir: Path = Path('work')
    clean_workdir: bool = False
    stop_on_first_crash: bool = False
    dry_run: bool = False
    write_graph: bool = False
    reports_only: bool = False
    viewer: bool = True
    boilerplate: bool = False
    verbose: int = 0
    notes: tuple[str, ...] = field(default=(), compare=False)

    @property
    def filters(self) -> dict[str, Any]:
        """Filters of pybids for the scans, by modality and filter file.

        Raises
        ------
        SettingsError
            If the file cannot be read or is not a JSON object of filters.
        """
        # Without one `find_scans` selects T1w scans.
        filters = {} if self.modality == 'T1w' else {'suffix': self.modality}
        if self.bids_filter_file is None:
            return filters
        return filters | read_filters(self.bids_filter_file, self.modality.lower())

    @property
    def conform(self) -> 'ConformOptions':
        """Options of the conform step."""
        # Imported late: it loads SciPy, which the command line does not need.
        from .image.conform import ConformOptions

        return ConformOptions(window=self.intensity_window, ct=self.ct)

    @property
    def maps(self) -> tuple[str, ...]:
        """Names of the maps of uncertainty that the run writes, see `ScanOutputs.uncertainty`."""
        if not self.uncertainty:
            return ()
        return ('entropy', 'spread') if self.inference.tta else ('entropy',)

    @property
    def network_memory(self) -> Granted:
        """Memory that one network may use; the rest is for the processes that run beside it."""
        others, total = PROCESSES_GB + WORKER_GB, self.memory.amount
        source = f'the {total:.3g} GB of all processes, less {others:.1f} GB for those beside it'
        return Granted(max(0.1, total - others), source)

    def recipe(self) -> dict[str, Any]:
        """Return the settings that change results, apart from model and scan.

        Returns
        -------
        dict
            A result is current only if it was made with an equal recipe.
        """
        names = ('normalization', 'components', 'label_codes', 'resample', 'probseg', 'frame')
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if self.intensity_window != 'auto':
            given['intensity_window'] = self.intensity_window
        if self.ct:
            given['ct'] = True
        if self.localiser != 'auto':
            given['localiser'] = self.localiser
        if self.border:
            given['border'] = self.border
        if self.uncertainty:
            given['uncertainty'] = True
        # Engine, device and crop do not change results.
        changed = self.inference.to_dict()
        for name in ('precision', 'tta', 'subvolumes'):
            if name in changed:
                given[name] = changed[name]
        return given

    def to_toml(self) -> str:
        """Write the settings as a config file that repeats the run.

        Returns
        -------
        str
        """
        import tomli_w

        options = asdict(self)
        # A config file has all options in one table, like the command line.
        options |= options.pop('inference')
        table = {}
        for name, value in options.items():
            if value is None or name in _INTERNAL or name in _PER_RUN:
                continue
            if isinstance(value, tuple):
                value = list(value)
            table[name] = str(value) if isinstance(value, Path) else value
        return tomli_w.dumps({'brainchop': table})


def make_settings(options: dict[str, Any]) -> Settings:
    """Make settings from parsed options: paths become absolute, resources get their defaults.

    Parameters
    ----------
    options : dict
        Options of the command line and of the config file.

    Returns
    -------
    Settings

    Raises
    ------
    SettingsError
        If an option has an impossible value.
    """
    names = {item.name for item in fields(InferenceOptions)}
    inference = InferenceOptions(
        **{name: value for name, value in options.items() if name in names}
    )
    names.add('config_file')
    options = {name: value for name, value in options.items() if name not in names}
    for item in fields(Settings):
        value = options.get(item.name)
        if value is not None and 'Path' in str(item.type):
            # Symbolic links are kept, so that a dataset has the name that the user gave it.
            options[item.name] = Path(value).absolute()
        elif isinstance(value, list):
            options[item.name] = tuple(value)
    options['participant_label'] = _bare(options.get('participant_label'), 'sub-')
    options['session_label'] = _bare(options.get('session_label'), 'ses-')
    models = options.get('model') or ()
    # Folders become absolute, since the config file may be used elsewhere; names stay as they are.
    options['model'] = tuple(
        str(Path(model).absolute()) if os.path.isdir(model) else model
        for model in dict.fromkeys(models)
    )
    if os.path.isdir(options.get('localiser') or ''):
        options['localiser'] = str(Path(options['localiser']).absolute())
    cpus, memory = available_cpus(), available_memory()
    elsewhere = options.get('use_plugin') is not None
    if options.get('nprocs'):
        cpus = _asked_cpus(options['nprocs'], cpus, elsewhere)
    if options.get('mem'):
        memory = Granted(parse_memory(str(options['mem'])), '--mem')
    threads = _threads(options.get('omp_nthreads'), options.get('nprocs'), cpus, elsewhere)
    options.update(nprocs=int(cpus.amount), omp_nthreads=threads)
    notes = (
        f'{int(cpus.amount)} threads ({cpus.source}), {threads} for each process',
        f'{memory.amount:.1f} GB of memory ({memory.source})',
    )
    return Settings(**options, inference=inference, memory=memory, notes=notes)


def _asked_cpus(asked: int, granted: Granted, elsewhere: bool) -> Granted:
    """Return the requested processors, but no more than are granted on this machine.

    If a plugin runs the nodes ``elsewhere``, this machine's limits do not apply.
    """
    if elsewhere or asked <= granted.amount:
        return Granted(asked, '--nprocs')
    return Granted(granted.amount, f'{granted.source}; --nprocs asks for {asked}')


def _threads(asked: int | None, nprocs: int | None, cpus: Granted, elsewhere: bool) -> int:
    """Return the threads of one process, within the limits of the machine that it runs on."""
    if asked is None:
        return min(int(cpus.amount), 8)
    if nprocs and asked > nprocs:
        raise SettingsError(
            f'--omp-nthreads {asked} is more than the {nprocs} threads of all processes '
            '(--nprocs): lower it or raise --nprocs'
        )
    return asked if elsewhere else min(asked, int(cpus.amount))


def _bare(labels: tuple[str, ...] | None, prefix: str) -> tuple[str, ...]:
    """Remove the prefix and duplicates, keeping the order."""
    return tuple(dict.fromkeys(label.removeprefix(prefix) for label in labels or ()))
