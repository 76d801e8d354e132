// The speed test: delay against the number of frames that the localiser computes at once.
import { missing, register, threads } from './abilities.js';
import { alertLine, begin, byId, lineOf, make, save } from './dom.js';
import { Served } from './served.js';

const SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 800];
const [WIDTH, HEIGHT, LEFT, TOP, BOTTOM] = [640, 328, 64, 28, 48];
const SVG = 'http://www.w3.org/2000/svg';

let worker = null;
let times = [];

function running(is) {
  byId('start').hidden = is;
  byId('cancel').hidden = !is;
  byId('running').hidden = !is;
}

function stop(text) {
  worker?.terminate();
  worker = null;
  running(false);
  byId('said').textContent = text;
}

async function start() {
  alertLine(null);
  const served = new Served();
  await served.list();
  if (!served.localiser) throw new Error('there is no localiser among the served models');
  const { weights } = await served.files(served.localiser);
  times = [];
  running(true);
  worker = new Worker(new URL('./speed-worker.js', import.meta.url), { type: 'module' });
  worker.addEventListener('error', (event) => fail(event.message ?? 'the worker could not be loaded'));
  worker.addEventListener('message', ({ data }) => {
    if (data.type === 'error') fail(data.message);
    else if (data.type === 'end') stop('Done');
    else add(data);
  });
  tell();
  worker.postMessage({ weights, threads: threads(), sizes: SIZES });
}

function fail(message) {
  stop('');
  alertLine(lineOf(new Error(message)));
}

function add({ size, ms }) {
  times.push({ size, ms });
  tell();
  byId('measured').hidden = false;
  const cells = [String(size), ms.toFixed(1), (ms / size).toFixed(2)];
  const row = make('tr', {}, ...cells.map((text) => make('td', { className: 'number' }, text)));
  const body = document.querySelector('#measured tbody');
  if (times.length === 1) body.replaceChildren();
  body.append(row);
  draw();
}

function tell() {
  const next = SIZES[times.length];
  Object.assign(byId('progress'), { max: SIZES.length, value: times.length });
  byId('step').textContent = next === undefined ? '' : `${next} frame${next > 1 ? 's' : ''} at once`;
}

// Both axes are logarithmic, because delays and batches span factors of hundreds.
function draw() {
  const graph = byId('graph');
  const most = Math.max(...times.map(({ ms }) => ms));
  const least = Math.min(...times.map(({ ms }) => ms));
  const [low, high] = [Math.floor(Math.log10(least)), Math.ceil(Math.log10(most))];
  const across = (size) => LEFT + (Math.log(size) / Math.log(SIZES.at(-1))) * (WIDTH - LEFT - 16);
  const up = (ms) => {
    const part = (Math.log10(ms) - low) / Math.max(high - low, 1);
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM);
  };
  graph.replaceChildren();
  for (let power = low; power <= Math.max(high, low + 1); power += 1) {
    const y = up(10 ** power);
    graph.append(part('line', { class: 'grid', x1: LEFT, x2: WIDTH - 16, y1: y, y2: y }));
    graph.append(part('text', { class: 'tick', x: LEFT - 8, y: y + 4, 'text-anchor': 'end' }, `${Number((10 ** power).toPrecision(1))}`));
  }
  for (const size of SIZES) {
    graph.append(part('text', { class: 'tick', x: across(size), y: HEIGHT - BOTTOM + 18, 'text-anchor': 'middle' }, size));
  }
  graph.append(part('text', { class: 'tick', x: WIDTH / 2, y: HEIGHT - 8, 'text-anchor': 'middle' }, 'frames at once'));
  graph.append(part('text', { class: 'tick', x: LEFT - 8, y: TOP - 14, 'text-anchor': 'end' }, 'ms'));
  const line = part('g', { class: 'c0 strong' });
  const points = times.map(({ size, ms }) => [across(size), up(ms)]);
  line.append(part('polyline', { points: points.map((point) => point.join(',')).join(' ') }));
  for (const [x, y] of points) line.append(part('circle', { cx: x, cy: y, r: 3.5 }));
  graph.append(line);
  const [last] = times.slice(-1);
  byId('graph-title').textContent =
    `Milliseconds against frames at once, both logarithmic, ${threads()} thread${threads() > 1 ? 's' : ''}: ` +
    `${times[0].ms.toFixed(1)} ms for one frame, ${last.ms.toFixed(0)} ms for ${last.size}.`;
}

function part(tag, attributes, text) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function listen() {
  byId('start').addEventListener('click', () => {
    start().catch((error) => fail(error.message));
  });
  byId('cancel').addEventListener('click', () => stop('Cancelled'));
  byId('save').addEventListener('click', () => {
    const rows = times.map(({ size, ms }) => `${size}\t${threads()}\t${ms.toFixed(3)}`);
    save('speed.tsv', ['frames\tthreads\tmilliseconds', ...rows, ''].join('\n'));
  });
}

begin();
listen();
const why = missing();
if (why) {
  byId('start').disabled = true;
  alertLine(why);
}
document.body.dataset.ready = 'yes';
register();
