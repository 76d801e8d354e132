// The page: a scan, a model, the engine, and what comes of them.
import { hasWebGl2, missing, register, threads } from './abilities.js';
import { convertDicom, droppedFiles } from './dicom.js';
import { alertLine, begin, byId, lineOf, listenToFiles, make, note, save } from './dom.js';
import { contentOf, nameOf } from './files.js';
import { Models } from './models.js';
import { askOnce } from '../engine/apart.js';
import { UserError } from '../engine/errors.js';

// No scan of a head is larger, and browsers give a buffer no more.
const MOST_BYTES = 2 ** 31 - 1;
const SCAN = /\.(nii|nii\.gz|mgz|mgh)$/i;
const MODEL = /(\.(onnx|bin)|^(model|brainchop|labels|colormap|colorLUT)\.json)$/i;
const STEPS = {
  read: 'Reading the scan',
  localise: 'Finding the brain',
  conform: 'Conforming to 1 mm',
  network: 'Running the network',
  components: 'Removing stray components',
  resample: "Bringing labels into the scan's grid",
};

const models = new Models();
// Each is null until there is one; `busy` while files are read or a job runs.
const page = { scan: null, read: null, result: null, viewer: null, busy: false, able: true };

function refresh() {
  byId('segment').disabled = page.busy || !page.able || !page.scan || !models.chosen;
  for (const id of ['choose-scan', 'choose-folder', 'choose-model']) byId(id).disabled = page.busy;
  byId('models').disabled = page.busy;
}

// Whatever goes wrong is one line, and the page goes on.
async function attempt(work) {
  page.busy = true;
  refresh();
  try {
    await work();
  } catch (error) {
    if (error.name === 'AbortError') say('Cancelled');
    else alertLine(lineOf(error));
  } finally {
    page.busy = false;
    refresh();
  }
}

const say = (text) => {
  byId('said').textContent = text;
};

async function take(files, folders = false) {
  if (page.busy) throw new UserError('A scan is being computed; cancel it first');
  alertLine(null);
  await attempt(async () => {
    const scans = files.filter(({ name }) => SCAN.test(name));
    if (scans.length === 1) await takeScan(scans[0]);
    else if (scans.length) throw new UserError(`${scans.length} scans: one at a time; drop one of them`);
    else if (files.some(({ name }) => MODEL.test(name))) await takeModel(files);
    else if (folders || files.length > 1 || /\.(dcm|ima)$/i.test(files[0].name)) await takeDicom(files);
    else throw new UserError(`${files[0].name}: is no scan; expected .nii, .nii.gz, .mgz, .mgh or a folder of DICOM slices`);
  });
}

async function takeDicom(files) {
  say('Reading DICOM slices');
  const series = await convertDicom(files).catch(() => []);
  if (!series.length) {
    throw new UserError(`${files.length} files: no DICOM series that dcm2niix can read; expected the slices of one series`);
  }
  await takeScan(series[0]);
  if (series.length > 1) {
    const line = `${series.length} series are in this folder; the largest is taken: ${series[0].name}`;
    alertLine(line, { bad: false });
  }
}

async function takeScan(file) {
  if (file.size > MOST_BYTES) {
    throw new UserError(`${file.name}: has ${(file.size / 1e9).toFixed(1)} GB, which no browser takes; use brainchop-segment`);
  }
  // The file itself, which takes no memory until it is read.
  const scan = { name: file.name, data: file };
  const worker = new Worker(new URL('../engine/preview_worker.js', import.meta.url), { type: 'module' });
  const { shown, every, ...read } = await askOnce(worker, { scan });
  forget();
  page.scan = scan;
  page.read = read;
  const { dims, zooms } = read.geometry;
  byId('scan-name').replaceChildren(
    make('b', {}, file.name),
    ` ${dims.join(' × ')} voxels of ${zooms.map((mm) => Number(mm.toFixed(2))).join(' × ')} mm`,
    every > 1 ? `, of which one in ${every ** 3} is shown, since all do not fit into a page` : '',
  );
  if (page.viewer) {
    byId('viewer').hidden = false;
    byId('empty').hidden = true;
    await page.viewer.showScan({ read, shown, every });
  }
}

async function takeModel(files) {
  const warnings = await models.add(files);
  if (warnings.length) alertLine(warnings.join(' '), { bad: false });
}

function forget() {
  page.result = null;
  byId('results').hidden = true;
  document.body.classList.remove('has-result');
  page.viewer?.hideLabels();
}

async function segment() {
  alertLine(null);
  await attempt(async () => {
    forget();
    running(true);
    const stop = new AbortController();
    byId('cancel').onclick = () => stop.abort();
    try {
      const model = await models.load();
      const options = { threads: threads() };
      const worker = new Worker(new URL('../engine/worker.js', import.meta.url), { type: 'module' });
      // Buffers are copied, not transferred: another scan may follow.
      const result = await askOnce(worker, { scan: page.scan, model, options }, progress, stop.signal);
      await show(result, model);
    } finally {
      running(false);
    }
  });
}

let clock = null;

function running(is) {
  byId('running').hidden = !is;
  byId('cancel').hidden = !is;
  byId('segment').hidden = is;
  clearInterval(clock);
  if (is) {
    const begun = performance.now();
    const tick = () => {
      byId('clock').textContent = `${((performance.now() - begun) / 1000).toFixed(0)} s`;
    };
    tick();
    clock = setInterval(tick, 250);
    progress({ step: 'read', done: 0, total: 0 });
    byId('cancel').focus();
  } else if (document.activeElement === document.body) {
    byId('segment').focus();
  }
}

function progress({ step, done, total }) {
  const text = STEPS[step] ?? step;
  // Screen readers are told of new steps, not of each part.
  if (!byId('said').textContent.startsWith(text)) say(text);
  byId('step').textContent = total > 1 ? `${text}: ${Math.floor((100 * done) / total)} %` : text;
  const bar = byId('progress');
  if (total > 1) Object.assign(bar, { max: total, value: done });
  else bar.removeAttribute('value');
}

async function show(result, { manifest }) {
  const { labels, mask, volumes, provenance } = result;
  const names = { table: manifest.labels, scan: page.scan.name, model: manifest.name };
  page.result = { labels, mask, volumes, provenance, ...names };
  const table = document.querySelector('#results tbody');
  table.replaceChildren(...result.volumes.map(row));
  const remarks = [...result.warnings, ...result.flags].map((line) => line[0].toUpperCase() + line.slice(1));
  byId('flags').replaceChildren(
    ...remarks.map((line) => make('div', { className: 'alert', role: 'note' }, make('p', {}, line))),
  );
  const { device, threads: count } = result.provenance;
  const means = device === 'gpu' ? 'GPU' : `${count} thread${count > 1 ? 's' : ''}`;
  byId('facts').textContent = `${manifest.name} · ${result.seconds.total.toFixed(1)} s · ${means}`;
  for (const kind of ['mask', 'brain']) {
    document.querySelector(`[data-save="${kind}"]`).hidden = !result.mask;
  }
  byId('layer').closest('label').hidden = !result.mask;
  byId('brain-only').closest('label').hidden = !result.mask;
  byId('results').hidden = false;
  document.body.classList.add('has-result');
  await page.viewer?.showLabels(page.result);
  // On a narrow screen they are below all else.
  if (matchMedia('(max-width: 52rem)').matches) byId(page.viewer ? 'viewer' : 'results').scrollIntoView();
  say(`Done in ${result.seconds.total.toFixed(0)} seconds`);
}

function row(label) {
  const swatch = make('span', { className: 'swatch', ariaHidden: 'true' });
  swatch.style.background = label.color;
  const find = make('button', { type: 'button', className: 'find', textContent: label.name });
  find.disabled = !label.voxels || !page.viewer;
  find.addEventListener('click', () => page.viewer.show(label.index));
  const number = (value) => make('td', { className: 'number' }, value);
  return make(
    'tr', {},
    make('th', { scope: 'row' }, swatch, ' ', find),
    number(String(label.index)), number(label.voxels.toLocaleString('en')), number(label.mL.toFixed(2)),
  );
}

async function saveFile(kind) {
  const { result } = page;
  const name = nameOf(kind, result.scan, result.model);
  try {
    save(name, await contentOf(kind, result, page.read, page.scan));
    say(`Saved ${name}`);
  } catch (error) {
    alertLine(lineOf(error));
  }
}

function listenToDrops() {
  const marked = (is) => document.body.classList.toggle('dropping', is);
  addEventListener('dragover', (event) => {
    event.preventDefault();
    marked(true);
  });
  addEventListener('dragleave', (event) => event.relatedTarget === null && marked(false));
  addEventListener('drop', (event) => {
    event.preventDefault();
    marked(false);
    droppedFiles(event.dataTransfer)
      .then(({ files, folders }) => files.length && take(files, folders))
      .catch((error) => alertLine(lineOf(error)));
  });
}

function listen() {
  const taken = (files, folders) => take(files, folders).catch((error) => alertLine(lineOf(error)));
  listenToFiles(byId('choose-scan'), byId('scan-file'), (files) => taken(files));
  listenToFiles(byId('choose-folder'), byId('scan-folder'), (files) => taken(files, true));
  listenToFiles(byId('choose-model'), byId('model-files'), (files) => taken(files));
  byId('segment').addEventListener('click', segment);
  for (const button of document.querySelectorAll('[data-save]')) {
    button.addEventListener('click', () => saveFile(button.dataset.save));
  }
  listenToDrops();
  // Nothing else may take a file that misses the page's parts, or fail unseen.
  addEventListener('unhandledrejection', ({ reason }) => alertLine(lineOf(reason)));
}

async function start() {
  begin();
  listen();
  const why = missing();
  if (why) {
    page.able = false;
    alertLine(why);
  }
  if (hasWebGl2()) {
    const { Viewer } = await import('./viewer.js');
    byId('viewer').hidden = false;
    page.viewer = await Viewer.create();
    byId('viewer').hidden = true;
  } else {
    note('This browser has no WebGL 2, so scans are not shown; labels can be computed and saved all the same.');
    byId('empty').hidden = true;
  }
  await models.list();
  refresh();
  document.body.dataset.ready = 'yes';
  await register();
}

start().catch((error) => alertLine(lineOf(error)));
