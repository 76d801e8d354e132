// The models to choose from: those that are served, and those that are dropped as files.
import { readDroppedModel } from '../engine/dropped.js';
import { byId, make } from './dom.js';
import { LOCALISE, Served } from './served.js';

// More labels than these are counted, not named.
const MOST_NAMES = 5;

export class Models {
  #served = new Served();
  #own = new Map();

  async list() {
    await this.#served.list();
    const shown = this.#served.known.filter((model) => model.task !== LOCALISE);
    for (const model of shown) this.#offer(model, model.name, facts(model));
    if (shown.length) this.choose(shown[0].name);
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
    // Apart from a served one of the same name.
    const name = `${manifest.name} (own)`;
    if (!this.#own.has(name)) this.#offer(manifest, name, `your own · ${facts(manifest)}`);
    this.#own.set(name, { manifest, weights });
    this.choose(name);
    return warnings;
  }

  /** The chosen model as the engine takes it, with its localiser if that is served. */
  async load() {
    const model = this.#own.get(this.chosen) ?? (await this.#served.files(this.chosen));
    const wanted = model.manifest.localiser;
    const there = this.#served.known.some(({ name }) => name === wanted);
    return there ? { ...model, localiser: await this.#served.files(wanted) } : model;
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
