"""Names and colours of labels in a NIfTI header, as Connectome Workbench and others read them."""

import sys
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

# Code of extensions in Caret's XML, in nifti1.h.
CARET = 30
_UNIT = 16


def names_extension(names: Mapping[int, tuple[str, Sequence[int]]]) -> bytes:
    """Return the header extension with a label table in Caret's XML.

    Parameters
    ----------
    names : mapping of int to (str, (r, g, b))
        Name and colour, 0 to 255, of each value of the image.

    Returns
    -------
    bytes
        Size, code and text, padded to a multiple of 16 bytes, in this machine's byte order.

    Examples
    --------
    >>> block = names_extension({0: ('background', (0, 0, 0)), 1: ('White Matter', (255, 0, 0))})
    >>> len(block) % 16, block[4], b'>White Matter</Label>' in block
    (0, 30, True)
    """
    root = ElementTree.Element('CaretExtension')
    volume = ElementTree.SubElement(root, 'VolumeInformation', Index='0')
    table = ElementTree.SubElement(volume, 'LabelTable')
    for value, (name, color) in sorted(names.items()):
        parts = zip(('Red', 'Green', 'Blue'), color, strict=True)
        shown = {part: f'{level / 255:.6g}' for part, level in parts}
        # Background is transparent.
        row = {'Key': str(value), **shown, 'Alpha': str(int(value != 0))}
        ElementTree.SubElement(table, 'Label', row).text = name
    ElementTree.SubElement(volume, 'StudyMetaDataLinkSet')
    ElementTree.SubElement(volume, 'VolumeType').text = 'Label'
    text = ElementTree.tostring(root, 'utf-8', xml_declaration=True)
    size = -(-(8 + len(text)) // _UNIT) * _UNIT
    head = size.to_bytes(4, sys.byteorder) + CARET.to_bytes(4, sys.byteorder)
    return (head + text).ljust(size, b'\0')
