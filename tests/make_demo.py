"""Make a BIDS dataset of one scan: the MNI152 T1w that ships in nilearn's wheel.

Run as ``python -m tests.make_demo FOLDER``. The scan is real anatomy (an average of 152 heads)
and needs no network.
"""

import json
import shutil
import sys
from importlib.resources import files
from pathlib import Path

T1W = 'mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz'


def make_demo(folder: Path) -> Path:
    """Write the dataset.

    Parameters
    ----------
    folder : Path
        Its root; made if missing.

    Returns
    -------
    Path
        The scan.
    """
    scan = folder / 'sub-MNI152' / 'anat' / 'sub-MNI152_T1w.nii.gz'
    scan.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(str(files('nilearn.datasets') / 'data' / T1W), scan)
    description = {
        'Name': 'MNI152 (ICBM 2009a nonlinear symmetric) as shipped with nilearn',
        'BIDSVersion': '1.10.0',
        'License': 'see nilearn.datasets.load_mni152_template',
        'Authors': ['Fonov VS', 'Evans AC', 'Botteron K', 'Almli CR', 'McKinstry RC'],
    }
    text = json.dumps(description, indent=2) + '\n'
    (folder / 'dataset_description.json').write_text(text)
    (folder / 'README').write_text('A demonstration dataset for brainchop-bids.\n')
    return scan


if __name__ == '__main__':
    print(make_demo(Path(sys.argv[1])))
