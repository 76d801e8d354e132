"""DICOM series: what pydicom writes, dcm2niix converts."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from brainchop_bids.image.dicom import as_nifti
from brainchop_bids.image.io import read_volume
from brainchop_bids.system.errors import InputError

ZOOMS, FIRST = (0.8, 1.1, 2.5), (-40.0, -30.0, 12.0)


def write_series(folder: Path, data: np.ndarray, number: int = 1) -> None:
    """Write axial slices of Hounsfield units; axes of ``data`` run left, back and up."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for place in range(data.shape[2]):
        image = Dataset()
        image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID = study, series
        image.FrameOfReferenceUID, image.Modality = frame, 'CT'
        image.PatientID, image.PatientName = '1', 'Nobody'
        image.SeriesNumber, image.InstanceNumber = number, place + 1
        image.SeriesDescription, image.ImageType = 'head', ['ORIGINAL', 'PRIMARY', 'AXIAL']
        image.Rows, image.Columns = data.shape[1], data.shape[0]
        image.PixelSpacing = [ZOOMS[1], ZOOMS[0]]
        image.SliceThickness = ZOOMS[2]
        image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        image.ImagePositionPatient = [FIRST[0], FIRST[1], FIRST[2] + place * ZOOMS[2]]
        image.SamplesPerPixel, image.PhotometricInterpretation = 1, 'MONOCHROME2'
        image.BitsAllocated = image.BitsStored = 16
        image.HighBit, image.PixelRepresentation = 15, 1
        image.RescaleIntercept, image.RescaleSlope = 0, 1
        image.PixelData = np.ascontiguousarray(data[..., place].T).tobytes()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        pydicom.dcmwrite(folder / f'{number}_{place}.dcm', image, enforce_file_format=True)


@pytest.fixture
def data() -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 1000, (12, 10, 8)).astype(np.int16)


def test_a_series_is_read_with_its_place(tmp_path: Path, data: np.ndarray) -> None:
    write_series(tmp_path, data)
    with as_nifti(tmp_path) as path:
        volume = read_volume(path)
    # DICOM's x and y run to the left and back, NIfTI's world to the right and front.
    vox2ras = np.diag([-ZOOMS[0], -ZOOMS[1], ZOOMS[2], 1.0])
    vox2ras[:3, 3] = -FIRST[0], -FIRST[1], FIRST[2]
    voxel = (3, 7, 5)
    place = nib.affines.apply_affine(vox2ras, voxel)
    found = nib.affines.apply_affine(np.linalg.inv(volume.geometry.vox2ras), place)
    np.testing.assert_allclose(found, np.rint(found), atol=1e-3)
    assert volume.data[tuple(np.rint(found).astype(int))] == data[voxel]
    assert sorted(volume.data.ravel()) == sorted(data.ravel())
    assert not path.exists()


def test_files_are_left_as_they_are(tmp_path: Path) -> None:
    with as_nifti(tmp_path / 'scan.nii.gz') as path:
        assert path == tmp_path / 'scan.nii.gz'


def test_folders_without_one_series_are_refused(tmp_path: Path, data: np.ndarray) -> None:
    (tmp_path / 'notes.txt').write_text('no image')
    with (
        pytest.raises(InputError, match='expected the files of a DICOM series'),
        as_nifti(tmp_path),
    ):
        pass
    for number in (1, 2):
        write_series(tmp_path, data, number)
    with pytest.raises(InputError, match='holds 2 images'), as_nifti(tmp_path):
        pass
