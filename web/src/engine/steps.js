/** Chains of convolutions, as ONNX files and TensorFlow.js layers describe them. */
import { UserError } from './errors.js';

/**
 * A convolution that keeps the grid, and its activation.
 * @typedef {object} Step
 * @property {number} size 1 or 3
 * @property {number} dilation
 * @property {number} inputs
 * @property {number} outputs
 * @property {Float32Array} kernel
 * @property {number[]} strides in the kernel, of x, y, z, input and output
 * @property {Float32Array} bias
 * @property {string} activation `linear`, `relu`, `leaky_relu` or `elu`
 * @property {number} alpha
 */

const ONNX_ACTIVATIONS = { Relu: 'relu', Elu: 'elu', LeakyRelu: 'leaky_relu' };
const DEFAULT_ALPHA = { elu: 1, leaky_relu: 0.01 };

/** Whether all numbers of a list are equal. */
const same = (list) => list.every((n) => n === list[0]);

/**
 * Steps of a graph, `null` if it is none of those that can be computed plane by plane.
 * @param {ReturnType<import('./onnx.js').readOnnx>} graph
 * @returns {Step[] | null}
 */
export function stepsOfOnnx(graph) {
  const steps = [];
  let current = graph.inputs[0];
  for (const { kind, inputs, outputs, attributes } of graph.nodes) {
    if (inputs[0] !== current || outputs.length !== 1) return null;
    [current] = outputs;
    const last = steps.at(-1);
    if (kind === 'Identity') continue;
    if (kind === 'Softmax') {
      // The order of classes stays.
      if (attributes.axis !== 1 || current !== graph.outputs[0]) return null;
    } else if (kind in ONNX_ACTIVATIONS) {
      if (!last || last.activation !== 'linear') return null;
      last.activation = ONNX_ACTIVATIONS[kind];
      last.alpha = attributes.alpha ?? DEFAULT_ALPHA[last.activation] ?? 0;
    } else if (kind === 'Conv') {
      const step = stepOfOnnx(graph.tensors, inputs, attributes);
      if (!step) return null;
      steps.push(step);
    } else return null;
  }
  return current === graph.outputs[0] && isChain(steps) ? steps : null;
}

function stepOfOnnx(tensors, [, kernelName, biasName], attributes) {
  const kernel = tensors.get(kernelName);
  const bias = biasName ? tensors.get(biasName) : null;
  if (!kernel?.values || kernel.dims.length !== 5 || (biasName && !bias?.values)) return null;
  const [outputs, inputs, ...sizes] = kernel.dims;
  const { dilations = [1, 1, 1], strides = [1, 1, 1], group = 1 } = attributes;
  const { pads = [0, 0, 0, 0, 0, 0], auto_pad: auto = 'NOTSET' } = attributes;
  const reach = ((sizes[0] - 1) * dilations[0]) / 2;
  const fits =
    same(sizes) && same(dilations) && strides.every((n) => n === 1) && group === 1 &&
    (auto === 'NOTSET' ? pads.every((n) => n === reach) : auto.startsWith('SAME'));
  if (!fits) return null;
  const side = sizes[0];
  return {
    size: side,
    dilation: dilations[0],
    inputs,
    outputs,
    kernel: kernel.values,
    strides: [side * side, side, 1, side ** 3, inputs * side ** 3],
    bias: bias?.values ?? new Float32Array(outputs),
    activation: 'linear',
    alpha: 0,
  };
}

function isChain(steps) {
  if (steps.length < 2) return false;
  const last = steps.at(-1);
  return (
    steps[0].inputs === 1 &&
    steps.every((step) => step.size === 1 || step.size === 3) &&
    steps.every((step, i) => !i || step.inputs === steps[i - 1].outputs) &&
    last.size === 1 && last.activation === 'linear' && last.outputs > 1
  );
}

/**
 * Steps of a TensorFlow.js layers model.
 * @param {any} content of `model.json`
 * @param {Map<string, ArrayBuffer>} shards by name
 * @param {string} name of the file, for messages
 * @returns {Step[]}
 */
export function stepsOfTfjs(content, shards, name) {
  const layers = content?.modelTopology?.model_config?.config?.layers;
  const groups = content?.weightsManifest;
  if (!Array.isArray(layers) || !Array.isArray(groups)) {
    throw new UserError(`${name}: is no TensorFlow.js layers model; choose its model.json`);
  }
  const weights = tfjsWeights(groups, shards, name);
  const steps = [];
  for (const layer of layers) {
    const { class_name: kind, config, inbound_nodes: nodes } = layer;
    const told = config?.name ?? '';
    const advice = 'convert it first: brainchop-models convert NAME web FOLDER';
    const fault = (what) => new UserError(`${name}: the layer ${told} ${what}; ${advice}`);
    if (kind === 'InputLayer') continue;
    if (nodes?.length && nodes[0].length !== 1) throw fault('joins several others');
    // Upstream's name for a normalisation that is nowhere else in the file.
    if (told.endsWith('_gn')) throw fault('is normalised over the whole volume');
    if (kind === 'Activation' || kind === 'ReLU' || kind === 'ELU' || kind === 'LeakyReLU') {
      const activation = { ReLU: 'relu', ELU: 'elu', LeakyReLU: 'leaky_relu' }[kind];
      setActivation(steps.at(-1), activation ?? config.activation, config, fault);
    } else if (kind === 'Conv3D') {
      const kernel = weights.get(`${told}/kernel`);
      const bias = weights.get(`${told}/bias`);
      if (!kernel || (config.use_bias !== false && !bias)) throw fault('has no weights');
      const [side, , , inputs, outputs] = kernel.shape;
      const { dilation_rate: dilation = [1, 1, 1], strides = [1, 1, 1] } = config;
      const fits =
        same(kernel.shape.slice(0, 3)) && same(dilation) && strides.every((n) => n === 1) &&
        (config.padding === 'same' || side === 1) && config.data_format !== 'channels_first';
      if (!fits) throw fault('is no convolution that keeps the grid');
      steps.push({
        size: side,
        dilation: dilation[0],
        inputs,
        outputs,
        kernel: kernel.values,
        strides: [side * side * inputs * outputs, side * inputs * outputs, inputs * outputs, outputs, 1],
        bias: bias?.values ?? new Float32Array(outputs),
        activation: 'linear',
        alpha: 0,
      });
      setActivation(steps.at(-1), config.activation ?? 'linear', {}, fault);
    } else if (kind !== 'Dropout' && kind !== 'SpatialDropout3D') {
      throw fault(`is of the kind ${kind}`);
    }
  }
  if (steps.at(-1)?.activation === 'softmax') steps.at(-1).activation = 'linear';
  if (steps[0]?.inputs > 1) {
    throw new UserError(`${name}: takes ${steps[0].inputs} scans, a page gives one`);
  }
  if (!isChain(steps)) {
    throw new UserError(
      `${name}: is no chain of convolutions from one channel to classes; convert it first: ` +
        'brainchop-models convert NAME web FOLDER',
    );
  }
  return steps;
}

function setActivation(step, activation, config, fault) {
  if (!step || activation === 'linear') return;
  const known = ['relu', 'elu', 'leaky_relu', 'softmax'];
  if (!known.includes(activation) || step.activation !== 'linear') {
    throw fault(`has the activation ${activation}`);
  }
  step.activation = activation;
  step.alpha = config.alpha ?? config.negative_slope ?? DEFAULT_ALPHA[activation] ?? 0;
}

function tfjsWeights(groups, shards, name) {
  const found = new Map();
  for (const { paths = [], weights = [] } of groups) {
    const parts = paths.map((path) => {
      const data = shards.get(path.split('/').at(-1));
      if (!data) throw new UserError(`${name}: needs the file ${path}; choose it as well`);
      return new Uint8Array(data);
    });
    const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    parts.reduce((at, part) => (bytes.set(part, at), at + part.length), 0);
    let at = 0;
    for (const { name: weight, shape, dtype, quantization } of weights) {
      const count = shape.reduce((product, n) => product * n, 1);
      if (dtype !== 'float32' || quantization) {
        throw new UserError(`${name}: ${weight} is not stored as float32; save the model so`);
      }
      if (at + 4 * count > bytes.length) {
        throw new UserError(`${name}: its weights are cut short; fetch the model again`);
      }
      found.set(weight, { shape, values: new Float32Array(bytes.slice(at, at + 4 * count).buffer) });
      at += 4 * count;
    }
  }
  return found;
}
