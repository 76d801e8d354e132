// The voxels at the surface of some labels, and the directions in which they look.
class Surface {
  // Voxels around one that tell where it looks; with fewer the surface looks like stairs.
  static REACH = 2;

  // `member` tells of each label whether it belongs to the surface's body.
  constructor(labels, [nx, ny, nz], member) {
    const border = Surface.REACH;
    this.row = nx + 2 * border;
    this.layer = this.row * (ny + 2 * border);
    // With a border, so that each voxel has all neighbours.
    this.inside = new Uint8Array(this.layer * (nz + 2 * border));
    const index = (j, k) => border + this.row * (j + border) + this.layer * (k + border);
    let at = 0;
    for (let k = 0; k < nz; k += 1) {
      for (let j = 0; j < ny; j += 1) {
        for (let to = index(j, k), end = to + nx; to < end; to += 1, at += 1) {
          this.inside[to] = member[labels[at]];
        }
      }
    }
    const [places, indices, values] = [[], [], []];
    at = 0;
    for (let k = 0; k < nz; k += 1) {
      for (let j = 0; j < ny; j += 1) {
        for (let i = 0, to = index(j, k); i < nx; i += 1, to += 1, at += 1) {
          if (!this.inside[to] || this.isCovered(to)) continue;
          places.push(i, j, k);
          indices.push(to);
          values.push(labels[at]);
        }
      }
    }
    this.count = values.length;
    this.places = Int16Array.from(places);
    this.indices = Int32Array.from(indices);
    this.values = Uint16Array.from(values);
    this.normals = new Int8Array(3 * this.count);
    this.known = new Uint8Array(this.count);
  }

  isCovered(at) {
    const { inside, row, layer } = this;
    return (
      inside[at - 1] && inside[at + 1] && inside[at - row] && inside[at + row] &&
      inside[at - layer] && inside[at + layer]
    );
  }

  place(point) {
    return this.places.subarray(3 * point, 3 * point + 3);
  }

  // How much a point looks into a direction: 1 straight, 0 sideways or away. Most points are never
  // seen, so that normals are computed when they are needed.
  facing(point, [x, y, z]) {
    if (!this.known[point]) this.findNormal(point);
    const at = 3 * point;
    const along = x * this.normals[at] + y * this.normals[at + 1] + z * this.normals[at + 2];
    return Math.max(along / 127, 0);
  }

  // Away from the neighbours that are inside.
  findNormal(point) {
    const reach = Surface.REACH;
    let [x, y, z] = [0, 0, 0];
    for (let k = -reach; k <= reach; k += 1) {
      for (let j = -reach; j <= reach; j += 1) {
        const middle = this.indices[point] + this.row * j + this.layer * k;
        for (let i = -reach; i <= reach; i += 1) {
          if (!this.inside[middle + i]) continue;
          x -= i;
          y -= j;
          z -= k;
        }
      }
    }
    const length = Math.hypot(x, y, z) || 1;
    this.normals.set([x, y, z].map((part) => Math.round((127 * part) / length)), 3 * point);
    this.known[point] = 1;
  }
}
