"""Segment a scan after a preprocessing step, here N4 bias correction by SimpleITK.

    python after_bias_correction.py T1w.nii.gz OUT

Any node that outputs a file can take its place. The labels are in the grid of the image that this
step has written. ``pip install 'brainchop-bids[examples]'`` also installs SimpleITK.
"""

import argparse
import json
from pathlib import Path

from nipype import DataSink, Function, Node, Workflow

from brainchop_bids.workflows.segment import init_single_scan_wf


def correct_bias(in_file: str, shrink: int) -> str:
    """Divide a scan by the bias field that N4 estimates from a subsampled image.

    The imports are inside, because Nipype runs the source code of the function.
    """
    from pathlib import Path

    import nibabel as nib
    import numpy as np
    import SimpleITK as sitk

    scan = nib.load(in_file)
    data = np.asarray(scan.dataobj, np.float32)
    # For N4 only voxel sizes matter, not the orientation.
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    image.SetSpacing([float(zoom) for zoom in scan.header.get_zooms()[:3]])
    head = sitk.OtsuThreshold(image, 0, 1, 200)
    # Axes with few voxels are not subsampled.
    steps = [min(shrink, max(1, width // 16)) for width in image.GetSize()]
    n4 = sitk.N4BiasFieldCorrectionImageFilter()
    n4.Execute(sitk.Shrink(image, steps), sitk.Shrink(head, steps))
    field = sitk.GetArrayFromImage(n4.GetLogBiasFieldAsImage(image)).T
    out_file = Path.cwd() / 'corrected.nii'
    header = scan.header.copy()
    header.set_data_dtype(np.float32)
    header.set_slope_inter(1, 0)
    nib.Nifti1Image(data / np.exp(field), scan.affine, header).to_filename(out_file)
    return str(out_file)


def init_pipeline(arguments: argparse.Namespace) -> Workflow:
    """Connect the steps."""
    correct = Node(Function(['in_file', 'shrink'], ['out_file'], correct_bias), name='correct')
    correct.inputs.in_file = str(arguments.t1w.resolve())
    correct.inputs.shrink = arguments.shrink
    segment = init_single_scan_wf(model=arguments.model, mem_gb=arguments.mem_gb, omp_nthreads=2)
    sink = Node(DataSink(base_directory=str(arguments.out.resolve())), name='sink')

    pipeline = Workflow('after_bias_correction', base_dir=str(arguments.work_dir.resolve()))
    pipeline.connect(
        [
            (correct, segment, [('out_file', 'inputnode.t1w')]),
            (correct, sink, [('out_file', '@corrected')]),
            (
                segment,
                sink,
                [
                    ('outputnode.dseg', '@dseg'),
                    ('outputnode.brain_mask', '@mask'),
                    ('outputnode.volumes', '@volumes'),
                ],
            ),
        ]
    )
    return pipeline


def main() -> None:
    """Parse the command line and run the workflow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('t1w', type=Path, help='a T1-weighted scan')
    parser.add_argument('out', type=Path, help='folder for the results')
    parser.add_argument('--model', default='tissue', help='name or folder')
    parser.add_argument('--shrink', type=int, default=4, help='N4 looks at each so many voxels')
    parser.add_argument('--mem-gb', type=float, help='what a network may use (default: all)')
    parser.add_argument('--work-dir', type=Path, default=Path('work'))
    parser.add_argument('--plugin', default='Linear', help='Linear, MultiProc, SLURM, ...')
    parser.add_argument('--plugin-args', type=json.loads, default={}, help='JSON')
    arguments = parser.parse_args()
    pipeline = init_pipeline(arguments)
    pipeline.run(plugin=arguments.plugin, plugin_args=arguments.plugin_args)


if __name__ == '__main__':
    main()
