// Models of the served folder, and those that are dropped as files.
import { readDroppedModel } from '../engine/dropped.js';
import { byId, make } from './dom.js';

const FOLDER = new URL('./models/', document.baseURI);
const LOCALISE = 'localise';
// More labels than these are counted, not named.
const MOST_NAMES = 5;

async function bytesOf(url) {
  const answer = await fetch(url);
  if (!answer.ok) {
    throw Object.assign(new Error(`${url.pathname}: the server answers ${answer.status}; reload the page`), {
      name: 'UserError',
    });
  }
  return answer.arrayBuffer();
}

const jsonOf = async (url) => JSON.parse(new TextDecoder().decode(await bytesOf(url)));

/** The models of the folder that this page came from. */
export class Models {
  #known = [];
  #loaded = new Map();
  #own = new Map();

  async list() {
    this.#known = (await jsonOf(new URL('index.json', FOLDER))).models;
    const shown = this.#known.filter((model) => model.task !== LOCALISE);
    for (const model of shown) this.#offer(model, model.name, facts(model));
    if (shown.length) this.choose(shown[0].name);
  }

  /** The name of the localiser that is served, or `undefined`. */
  get localiser() {
    return this.#known.find((model) => model.task === LOCALISE)?.name;
  }

  get chosen() {
    return byId('models').querySelector(':checked')?.value;
  }

  choose(name) {
    const input = [...byId('models').querySelectorAll('input')].find(({ value }) => value === name);
    input.checked = true;
  }

  /** Read files of a model; it is then offered and chosen. Returns its warnings. */
  async add(files) {
    const read = files.map(async (file) => ({ name: file.name, data: await file.arrayBuffer() }));
    const { manifest, weights, warnings } = await readDroppedModel(await Promise.all(read));
    const name = `${manifest.name} `;
    if (!this.#own.has(name)) this.#offer(manifest, name, `your own · ${facts(manifest)}`);
    this.#own.set(name, { manifest, weights });
    this.choose(name);
    return warnings;
  }

  /** The chosen model as the engine takes it, with its localiser if that is served. */
  async load(name = this.chosen) {
    const model = this.#own.get(name) ?? (await this.files(name));
    const wanted = model.manifest.localiser;
    const served = this.#known.some((known) => known.name === wanted);
    return served ? { ...model, localiser: await this.files(wanted) } : model;
  }

  /** The manifest and the weights of a served model. */
  async files(name) {
    if (!this.#loaded.has(name)) {
      const folder = new URL(`${encodeURIComponent(name)}/`, FOLDER);
      const manifest = await jsonOf(new URL('manifest.json', folder));
      const weights = await bytesOf(new URL(manifest.weights, folder));
      this.#loaded.set(name, { manifest, weights });
    }
    return this.#loaded.get(name);
  }

  #offer(model, name, text) {
    const input = make('input', { type: 'radio', name: 'model', value: name });
    const label = make('label', { className: 'model' }, input, make('span', {}, model.name));
    label.lastChild.append(make('small', {}, text));
    byId('models').append(label);
  }
}

function facts({ labels, parameters, license, status }) {
  const names = labels.slice(1).map((label) => label.name.replaceAll('-', ' '));
  const said = names.length <= MOST_NAMES ? names.join(', ') : `${names.length} structures`;
  const weights = parameters ? `${parameters.toLocaleString('en')} weights` : '';
  return [said, weights, status, license].filter(Boolean).join(' · ');
}
