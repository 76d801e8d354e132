// The scan and its labels in NiiVue: three planes and 3-D.
import { MULTIPLANAR_TYPE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from '@niivue/niivue';
import { affineOf, inverse } from '../engine/geometry.js';
import { writeNifti } from '../engine/nifti_write.js';
import { thinned, thinnedGrid } from '../engine/preview.js';
import { byId } from './dom.js';
import { MASK } from './files.js';

const VIEWS = {
  all: SLICE_TYPE.MULTIPLANAR,
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  render: SLICE_TYPE.RENDER,
};
const BACKGROUND = { index: 0, name: '', color: '#000000' };
const INVERTED = { R: [255, 0], G: [255, 0], B: [255, 0], A: [0, 255], I: [0, 255] };

export class Viewer {
  #niivue = new Niivue({
    logLevel: 'warn',
    loadingText: '',
    dragAndDropEnabled: false,
    multiplanarLayout: MULTIPLANAR_TYPE.GRID,
    multiplanarShowRender: SHOW_RENDER.ALWAYS,
    crosshairColor: [0.35, 0.65, 1, 0.9],
    crosshairWidth: 0.6,
    show3Dcrosshair: true,
    isRadiologicalConvention: false,
    multiplanarPadPixels: 6,
    // The page's own controls have the keyboard.
    viewModeHotKey: '',
    clipPlaneHotKey: '',
    cycleClipPlaneHotKey: '',
  });
  #names = new Map();
  #result = null;
  #scan = null;
  #every = 1;
  #whole = null;
  #laid = 0;
  #sliders = [...document.querySelectorAll('[data-axis]')];

  static async create() {
    const viewer = new Viewer();
    await viewer.#niivue.attachToCanvas(byId('canvas'));
    // The sliders are for the keyboard.
    byId('canvas').tabIndex = -1;
    viewer.#niivue.addColormap('gray-inverted', INVERTED);
    viewer.#listen();
    return viewer;
  }

  /** Show what `preview` gave, without labels. */
  async showScan({ read, shown, every }) {
    this.#clear();
    this.#scan = read;
    this.#every = every;
    const volume = await image(shown, this.#grid(), byId('colors').value);
    this.#niivue.addVolume(volume);
    this.#whole = volume.img;
    const sizes = volume.dimsRAS.slice(1, 4);
    this.#sliders.forEach((slider, axis) => {
      slider.max = sizes[axis] - 1;
    });
    this.#niivue.updateGLVolume();
    this.#niivue.scene.crosshairPos = this.#niivue.vox2frac(sizes.map((size) => Math.floor(size / 2)));
    this.#niivue.drawScene();
    this.#niivue.createOnLocationChange();
  }

  /** Show labels, or the mask, as the controls say. */
  async showLabels(result) {
    this.hideLabels();
    this.#result = result;
    this.#names = new Map(result.volumes.map((label) => [label.index, label.name]));
    await this.#lay();
    if (this.#result === result) this.show(result.volumes.find((label) => label.voxels)?.index);
  }

  hideLabels() {
    this.#laid += 1;
    if (this.#result === null) return;
    this.#result = null;
    for (const volume of this.#niivue.volumes.slice(1)) this.#niivue.removeVolume(volume);
    this.#update();
  }

  /** Move the crosshair to the middle of a label. */
  show(index) {
    const { geometry } = this.#scan;
    const place = middle(this.#result.labels, geometry.dims, index);
    if (place === null) return;
    this.#niivue.scene.crosshairPos = this.#niivue.mm2frac(moved(affineOf(geometry), place));
    this.#niivue.drawScene();
    this.#niivue.createOnLocationChange();
  }

  // Lay labels or mask over the scan: not both, since each layer takes four bytes a voxel twice.
  async #lay() {
    this.#laid += 1;
    const turn = this.#laid;
    const masked = byId('layer').value === 'mask' && this.#result.mask;
    const table = tableOf(masked ? MASK : [BACKGROUND, ...this.#result.volumes]);
    const values = this.#shown(masked ? this.#result.mask : this.#result.labels);
    const volume = await image(values, this.#grid());
    // Meanwhile another layer may have been chosen, or another scan dropped.
    if (turn !== this.#laid) return;
    volume.img = values;
    volume.setColormapLabel(table);
    volume.opacity = byId('opacity').value / 100;
    const [, before] = this.#niivue.volumes;
    if (before) this.#niivue.removeVolume(before);
    this.#niivue.addVolume(volume);
  }

  // What `writeNifti` needs of the grid that is shown, and those of the scan's values that are.
  #grid() {
    return this.#every === 1 ? this.#scan : { geometry: thinnedGrid(this.#scan.geometry, this.#every) };
  }

  #shown(values) {
    return thinned(values, this.#scan.geometry.dims, this.#every);
  }

  #clear() {
    this.#laid += 1;
    this.#result = null;
    for (const volume of [...this.#niivue.volumes]) this.#niivue.removeVolume(volume);
  }

  #listen() {
    const view = this.#niivue;
    view.onLocationChange = (location) => this.#read(location);
    byId('view').addEventListener('input', ({ target }) => view.setSliceType(VIEWS[target.value]));
    byId('radiological').addEventListener('input', ({ target }) => {
      view.setRadiologicalConvention(target.checked);
    });
    byId('colors').addEventListener('input', ({ target }) => {
      view.setColormap(view.volumes[0].id, target.value);
    });
    for (const id of ['opacity', 'brain-only']) {
      byId(id).addEventListener('input', () => this.#update());
    }
    byId('layer').addEventListener('input', () => this.#lay());
    this.#sliders.forEach((slider, axis) => {
      slider.addEventListener('input', () => {
        const at = view.frac2vox(view.scene.crosshairPos);
        at[axis] = Number(slider.value);
        view.scene.crosshairPos = view.vox2frac(at);
        view.drawScene();
        view.createOnLocationChange();
      });
    });
  }

  // Take over what the controls say of labels.
  #update() {
    const [scan, layer] = this.#niivue.volumes;
    if (!scan) return;
    if (layer) layer.opacity = byId('opacity').value / 100;
    const mask = byId('brain-only').checked && this.#result?.mask;
    scan.img = mask ? cut(this.#whole, this.#shown(mask), scan) : this.#whole;
    this.#niivue.updateGLVolume();
  }

  #read(location) {
    const view = this.#niivue;
    const at = view.frac2vox(view.scene.crosshairPos);
    this.#sliders.forEach((slider, axis) => {
      slider.value = Math.round(at[axis]);
    });
    const [scan] = location.values;
    const mm = [...location.mm].slice(0, 3).map((value) => value.toFixed(1)).join(', ');
    const value = scan ? `intensity ${Number(scan.value.toPrecision(5))}` : '';
    const name = this.#result ? this.#nameAt(location.mm) : '';
    byId('readout').textContent = [name, value, `x, y, z: ${mm} mm`].filter(Boolean).join(' · ');
  }

  #nameAt(mm) {
    const { geometry } = this.#scan;
    const [x, y, z] = moved(inverse(affineOf(geometry)), [...mm].slice(0, 3)).map(Math.round);
    const [nx, ny] = geometry.dims;
    return this.#names.get(this.#result.labels[(z * ny + y) * nx + x]) ?? 'background';
  }
}

/** The voxel of a scan at a place in mm, or the place of a voxel, by a matrix. */
const moved = (rows, place) =>
  rows.slice(0, 3).map((row) => place.reduce((sum, at, axis) => sum + row[axis] * at, row[3]));

const image = (data, scan, colormap = 'gray') =>
  NVImage.loadFromUrl({
    ...{ url: 'image.nii', name: 'image.nii', colormap },
    buffer: writeNifti({ data, scan }).buffer,
  });

function tableOf(labels) {
  const colors = labels.map(({ color }) => channels(color));
  const [R, G, B] = [0, 1, 2].map((channel) => colors.map((color) => color[channel]));
  return {
    ...{ R, G, B },
    A: labels.map(({ index }) => (index ? 255 : 0)),
    I: labels.map(({ index }) => index),
    labels: labels.map(({ name }) => name),
  };
}

const channels = (color) => [1, 3, 5].map((at) => Number.parseInt(color.slice(at, at + 2), 16));

// The scan with nothing outside the mask.
function cut(values, mask, scan) {
  const made = values.slice();
  for (let at = 0; at < made.length; at += 1) {
    if (!mask[at % mask.length]) made[at] = scan.global_min_raw ?? 0;
  }
  return made;
}

// The voxel of a label that is nearest to its centre of mass.
function middle(labels, [nx, ny], index) {
  const places = (visit) => {
    for (let at = labels.indexOf(index); at >= 0; at = labels.indexOf(index, at + 1)) {
      visit([at % nx, Math.floor(at / nx) % ny, Math.floor(at / (nx * ny))]);
    }
  };
  const sums = [0, 0, 0];
  let count = 0;
  places((place) => {
    count += 1;
    for (const axis of [0, 1, 2]) sums[axis] += place[axis];
  });
  const centre = sums.map((sum) => sum / count);
  let best = null;
  let least = Infinity;
  places((place) => {
    const away = place.reduce((sum, value, axis) => sum + (value - centre[axis]) ** 2, 0);
    if (away < least) [best, least] = [place, away];
  });
  return best;
}
