// The models of the folder that this page came from.
import { UserError } from '../engine/errors.js';

const FOLDER = new URL('./models/', document.baseURI);
export const LOCALISE = 'localise';

async function bytesOf(url) {
  const answer = await fetch(url);
  if (!answer.ok) {
    throw new UserError(`${url.pathname}: the server answers ${answer.status}; reload the page`);
  }
  return answer.arrayBuffer();
}

const jsonOf = async (url) => JSON.parse(new TextDecoder().decode(await bytesOf(url)));

export class Served {
  #loaded = new Map();

  /** What the index says of each model. */
  known = [];

  async list() {
    this.known = (await jsonOf(new URL('index.json', FOLDER))).models;
  }

  /** The name of the localiser, or `undefined`. */
  get localiser() {
    return this.known.find((model) => model.task === LOCALISE)?.name;
  }

  /** The manifest and the weights of a model. */
  async files(name) {
    if (!this.#loaded.has(name)) {
      const folder = new URL(`${encodeURIComponent(name)}/`, FOLDER);
      const manifest = await jsonOf(new URL('manifest.json', folder));
      const weights = await bytesOf(new URL(manifest.weights, folder));
      this.#loaded.set(name, { manifest, weights });
    }
    return this.#loaded.get(name);
  }
}
