"""brainchop 0.2.5 (PyPI), run by the Python that it is installed in.

python peer.py whole SCAN MODEL OUT STATS      conform, segment, largest component, save
python peer.py network ARRAY MODEL OUT STATS   the network alone, twice, on a given array
"""

import sys

from stages import Stages


def whole(scan: str, model: str, out: str, stats: str) -> None:
    """Segment a scan as its documentation shows."""
    stages = Stages()
    with stages('import'):
        from brainchop import load, save, segment
    with stages('conform'):
        volume = load(scan)
    with stages('network, components'):
        result = segment(volume, model)
    with stages('save'):
        save(result, out)
    stages.write(stats)


def network(array: str, model: str, out: str, stats: str) -> None:
    """Label a conformed array, without components."""
    stages = Stages()
    with stages('import'):
        import numpy as np
        from brainchop.api import _load_model
        from tinygrad import Tensor
    data = np.load(array)
    with stages('build'):
        net = _load_model(model)
    for name in ('first', 'second'):
        with stages(name):
            # Its volumes are (z, y, x); `segment` turns them before the network, as here.
            turned = Tensor(np.ascontiguousarray(data.T)).permute(2, 1, 0).cast('float32')
            batch = net.normalize(turned.reshape(1, 1, *data.shape))
            labels = net(batch, fuse_chunk=net.n_classes)[0].cast('uint8').numpy()
    np.save(out, labels)
    stages.write(stats)


if __name__ == '__main__':
    {'whole': whole, 'network': network}[sys.argv[1]](*sys.argv[2:])
