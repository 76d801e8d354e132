"""Limits beyond which a result is flagged."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Limits of the plausibility flags.

    Sources: G, the model ``tissue`` on nine good heads (six of OpenfMRI ds000011,
    PUMI's at 2 mm, brainchop's sample, a child of ten); B, the same on scans damaged on purpose;
    M, SynthSeg's 20 label maps of adults (Billot et al. 2023,
    https://doi.org/10.1016/j.media.2023.102789). None depends on age.

    Parameters
    ----------
    labelled_ml : float
        Least labelled volume of a brain, mL; a network labels 1 mL of pure noise (B).
    brain_l : (float, float)
        Brain mask, L. G 1.20 to 1.74, M 0.87 to 1.43 without the fluid around it; skulls of
        adults hold up to 2 L, brains of three-year-olds some 1 L.
    extent_mm : float
        Longest extent of the brain, mm, planes of less than 3 cm^2 left out. G 127 to 176; a
        scan whose neck was labelled 229 (OpenfMRI studyforrest).
    grey_white : (float, float)
        Volume of grey over white matter. G 1.2 to 1.7, M 1.1 to 1.4, inverted 2.4 (B).
    mirror_asymmetry : float
        See `mirror_asymmetry`. G 0.03 to 0.05, M (masks closed by 5 mm) up to 0.06, half a brain
        0.23 (B).
    lateral_difference : float
        Difference of all left and all right labels over their sum. M up to 0.024.
    removed_fraction : float
        Share of the labelled volume that the component rule removed. G up to 0.12 (a neck that
        looks like brain), inverted 0.22, noise 0.79 (B).
    hole_fraction, hole_fraction_no_fluid : float
        Background inside the labels over the brain's volume; the second one for models that label
        ventricles as background. G up to 0.0005, other models up to 0.011; ventricles are 0.01 to
        0.093 of the brain (M).
    edge_cm2, base_cm2 : float
        Brain in the outermost 2 mm of the field of view, cm^2; the second one at its lower face,
        where the brainstem may leave it. G 0, and up to 6 below; a field that ends below the
        vertex 157, the cut of half a brain 86 (B).
    cjv : float
        MRIQC's coefficient of joint variation. G 0.56 to 0.89, with noise of a third of the
        brain's brightness 1.06 (B).
    voxel_mm : float
        Largest voxel size: sulci are narrower.
    surround_filled : float
        Share of non-empty blocks around the brain. G from 0.74, without skull 0.00 to 0.02 (B).
    lost_fraction : float
        Share of what is as bright as brain, in a skull-stripped scan, that lies outside the brain
        mask. FreeSurfer's example of voxelmorph 0.012, stripped by its aseg 0.003; masks that
        lack 6 % of it at one side 0.050 to 0.062, eroded by 2 voxels 0.038 (B).
    surround_intensity : float
        Median outside the brain over that inside. G below 0.1, inverted 1.14 (B).
    head_angle_degrees : float
        Angle between straight down and the direction from the brain to the rest of the head. G 6
        to 22, up to 64 in fields that end in the cerebellum; upside down 170, top and front
        exchanged 114 (B).
    extracerebral_l : (float, float)
        Volume of the rest of the head within which that angle is checked, L: with less there is
        no head, with more head and noise were not separated. G 1.4 to 2.7.
    extracerebral_mm : float
        Least distance from the brain to the rest of the head, mm, for which the angle is checked.
        G 28 to 70.
    """

    labelled_ml: float = 100.0
    brain_l: tuple[float, float] = (0.8, 2.2)
    extent_mm: float = 190.0
    grey_white: tuple[float, float] = (0.8, 2.2)
    mirror_asymmetry: float = 0.12
    lateral_difference: float = 0.1
    removed_fraction: float = 0.2
    hole_fraction: float = 0.02
    hole_fraction_no_fluid: float = 0.12
    edge_cm2: float = 5.0
    base_cm2: float = 30.0
    cjv: float = 1.0
    voxel_mm: float = 2.0
    surround_filled: float = 0.25
    lost_fraction: float = 0.03
    surround_intensity: float = 0.9
    head_angle_degrees: float = 80.0
    extracerebral_l: tuple[float, float] = (0.3, 4.5)
    extracerebral_mm: float = 15.0


LIMITS = Limits()
