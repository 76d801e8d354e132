/**
 * Chains of convolutions on a GPU, by WebGPU.
 *
 * As in `chain.js` all layers advance together, here by blocks of planes, and of the input of each
 * layer only those planes are kept that its next block needs. Four channels are a vector; a thread
 * computes all channels of some voxels.
 */
import { sidesOf, spread } from './boxes.js';
import { check } from './errors.js';

// Planes of a layer that are computed at once.
const BLOCK = 4;
const THREADS = 64;
const LANES = 4;
// Vectors of sums that a thread holds in registers.
const SUMS = 20;
// Bytes; more may be had, but not everywhere.
const MOST = 1.5e9;
// Milliseconds of work that is handed over at once: longer work could be taken for a hang.
const SHORT = 60;

const vectors = (channels) => Math.ceil(channels / LANES);

/**
 * Return a GPU, `null` if there is none.
 * @param {{ software?: boolean }} [options] `software`: accept one that is computed by the
 *   processor, which is slower than WebAssembly
 * @returns {Promise<GPUDevice | null>}
 */
export async function findGpu({ software = false } = {}) {
  const adapter = await globalThis.navigator?.gpu?.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter || (!software && (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter))) return null;
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  return adapter.requestDevice({ requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
}

/**
 * Label the voxels of a box; arguments and result as those of `runChain`, with a device of WebGPU.
 *
 * Throws an `Error` if the device fails or has too little memory.
 */
export async function runOnGpu({ device, steps, volume, dims, box, table, onProgress = () => {}, signal }) {
  const layers = planned(steps, dims, box);
  const jobs = jobsOf(layers);
  const { maxStorageBufferBindingSize: most } = device.limits;
  const sizes = layers.map(({ ring }) => ring?.bytes ?? 0);
  if (Math.max(...sizes) > most || sizes.reduce((sum, n) => sum + n) > MOST) {
    throw new Error('the network needs more memory than the GPU gives');
  }
  const made = [];
  const buffer = (usage, content) => {
    const size = Math.ceil((content.byteLength ?? content) / 4) * 4;
    const one = device.createBuffer({ size, usage, mappedAtCreation: typeof content === 'object' });
    made.push(one);
    if (typeof content === 'object') {
      const bytes = new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
      new Uint8Array(one.getMappedRange()).set(bytes);
      one.unmap();
    }
    return one;
  };
  const { STORAGE, UNIFORM, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const work = async () => {
    const [width, height, depth] = sidesOf(box);
    const labels = buffer(STORAGE | COPY_SRC, 4 * width * height * depth);
    const given = buffer(STORAGE, volume);
    const values = buffer(STORAGE, table);
    const rings = layers.map(({ ring }) => ring && buffer(STORAGE, ring.bytes));
    const stride = device.limits.minUniformBufferOffsetAlignment / 4;
    const places = new Uint32Array(jobs.length * stride);
    jobs.forEach(({ z, planes }, i) => places.set([z, planes], i * stride));
    const uniform = buffer(UNIFORM, places);
    const shaders = await Promise.all(
      layers.map((layer, i) => {
        const stored = i ? LANES * vectors(layer.step.inputs) : 1;
        const weights = buffer(STORAGE, weightsOf(layer.step, stored));
        const buffers = [rings[i] ?? given, weights, rings[i + 1] ?? labels];
        return shader(device, codeOf(layers, i, dims), i ? buffers : [...buffers, values], uniform);
      }),
    );
    await run({ device, layers, jobs, shaders, stride: 4 * stride, onProgress, signal });
    const copy = buffer(COPY_DST | MAP_READ, labels.size);
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(labels, 0, copy, 0, copy.size);
    device.queue.submit([encoder.finish()]);
    await copy.mapAsync(GPUMapMode.READ);
    return spread(new Uint32Array(copy.getMappedRange()), steps.at(-1).outputs, dims, box);
  };
  try {
    return await guarded(device, work);
  } finally {
    made.forEach((one) => one.destroy());
  }
}

/** What `work` returns; throws if the device found a fault, which WebGPU tells only if it is asked. */
async function guarded(device, work) {
  const kinds = ['out-of-memory', 'validation', 'internal'];
  kinds.forEach((kind) => device.pushErrorScope(kind));
  const [done] = await Promise.allSettled([work()]);
  const faults = await Promise.all(kinds.map(() => device.popErrorScope()));
  const fault = faults.find(Boolean);
  if (fault) throw new Error(fault.message.split('\n')[0]);
  if (done.status === 'rejected') throw done.reason;
  return done.value;
}

/** Each step with the region that it computes, and with the planes of its input that are kept. */
function planned(steps, dims, own) {
  const layers = [];
  let out = own;
  for (const step of [...steps].reverse()) {
    const reach = ((step.size - 1) / 2) * step.dilation;
    layers.unshift({ step, reach, out, ring: null });
    out = {
      low: out.low.map((n) => Math.max(0, n - reach)),
      high: out.high.map((n, axis) => Math.min(dims[axis], n + reach)),
    };
  }
  for (const [i, layer] of layers.entries()) {
    const { step, reach } = layer;
    layer.outputs = vectors(step.outputs);
    // Rows that a thread computes, so that each weight that it reads is used for several voxels.
    layer.rows = i && i < steps.length - 1 ? Math.max(1, Math.min(4, Math.floor(SUMS / layer.outputs))) : 1;
    layer.input = i ? layers[i - 1].out : out;
    if (!i) continue;
    const [width, height] = layer.out.low.map((n, axis) => layer.out.high[axis] - n + 2 * reach);
    const ring = {
      origin: layer.out.low.map((n) => n - reach),
      width,
      // A thread's last rows may lie beyond the end.
      height: height + layer.rows - 1,
      low: layer.input.low[2],
      count: 2 * reach + 2 * BLOCK - 1,
      groups: vectors(step.inputs),
    };
    ring.bytes = 16 * ring.width * ring.height * ring.count * ring.groups;
    layer.ring = ring;
  }
  return layers;
}

/** Blocks of planes, in an order in which each has what it needs. */
function jobsOf(layers) {
  const jobs = [];
  const next = layers.map(({ out }) => out.low[2]);
  const need = (i, last) => {
    const { out, reach } = layers[i];
    while (next[i] <= last) {
      const z = next[i];
      const planes = Math.min(BLOCK, out.high[2] - z);
      if (i) need(i - 1, Math.min(z + planes - 1 + reach, layers[i - 1].out.high[2] - 1));
      jobs.push({ layer: i, z, planes });
      next[i] += planes;
    }
  };
  need(layers.length - 1, layers.at(-1).out.high[2] - 1);
  return jobs;
}

/** Vectors of four outputs each: by place in the kernel, input (`stored` ones) and output; then the bias. */
function weightsOf({ size, inputs, outputs, kernel, strides: [sx, sy, sz, si, so], bias }, stored) {
  const row = LANES * vectors(outputs);
  const values = new Float32Array((size ** 3 * stored + 1) * row);
  for (let z = 0, place = 0; z < size; z++) {
    for (let y = 0; y < size; y++) {
      for (let x = 0; x < size; x++, place++) {
        for (let c = 0; c < inputs; c++) {
          const [at, from] = [(place * stored + c) * row, x * sx + y * sy + z * sz + c * si];
          for (let o = 0; o < outputs; o++) values[at + o] = kernel[from + o * so];
        }
      }
    }
  }
  values.set(bias, size ** 3 * stored * row);
  return values;
}

const BINDINGS = `
struct Job { z: u32, planes: u32 }
@group(0) @binding(0) var<uniform> job: Job;`;
const bound = (number, mode, name, type) =>
  `@group(0) @binding(${number}) var<storage, ${mode}> ${name}: array<${type}>;`;
const range = (count) => [...Array(count).keys()];

/** The program of a layer. */
function codeOf(layers, i, dims) {
  const { step, out, rows } = layers[i];
  const [width, height] = sidesOf(out);
  const head = i === layers.length - 1;
  const body = head ? headOf(layers[i], width, height) : hiddenOf(layers, i, dims, width, height);
  return `${BINDINGS}
${bound(1, 'read', 'given', i ? 'vec4f' : 'u32')}
${bound(2, 'read', 'weights', 'vec4f')}
${bound(3, 'read_write', 'made', head ? 'u32' : 'vec4f')}
${i ? '' : bound(4, 'read', 'table', 'f32')}
${activation(step)}
@compute @workgroup_size(${THREADS})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let x = id.x;
  let y = id.y * ${rows}u;
  let z = job.z + id.z;
  if (x >= ${width}u || y >= ${height}u || id.z >= job.planes) { return; }
${body}
}`;
}

function activation({ activation: kind, alpha }) {
  const value = {
    relu: 'max(v, vec4f())',
    leaky_relu: `select(v * f32(${alpha}), v, v > vec4f())`,
    elu: `select(f32(${alpha}) * (exp(min(v, vec4f())) - 1), v, v > vec4f())`,
  }[kind];
  return `fn activated(v: vec4f) -> vec4f { return ${value ?? 'v'}; }`;
}

function hiddenOf(layers, i, dims, width, height) {
  const { step, input, out, outputs, rows } = layers[i];
  const { ring } = layers[i + 1];
  const half = (step.size - 1) / 2;
  const inner = i ? featuresOf(layers[i]) : intensitiesOf(layers[i], dims);
  const start = step.size ** 3 * (i ? LANES * vectors(step.inputs) : 1) * outputs;
  const sums = range(rows).flatMap((row) => range(outputs).map((o) => [row, o]));
  const place = (row) =>
    `((slot * ${ring.groups}u) * ${ring.height}u + y + ${out.low[1] - ring.origin[1] + row}u) * ` +
    `${ring.width}u + x + ${out.low[0] - ring.origin[0]}u`;
  return `${sums.map(([row, o]) => `  var s${row}_${o} = weights[${start + o}u];`).join('\n')}
  for (var k = 0; k < ${step.size}; k++) {
    let plane = i32(z) + (k - ${half}) * ${step.dilation};
    if (plane < ${input.low[2]} || plane >= ${input.high[2]}) { continue; }
    for (var j = 0; j < ${step.size}; j++) {
      for (var i = 0; i < ${step.size}; i++) {
        let tap = u32((k * ${step.size} + j) * ${step.size} + i);
${inner}
      }
    }
  }
  let slot = (z - ${ring.low}u) % ${ring.count}u;
${range(rows).map((row) => {
    const lines = range(outputs).map((o) => {
      return `made[at${row} + ${o * ring.width * ring.height}u] = activated(s${row}_${o});`;
    });
    const text = `let at${row} = ${place(row)}; ${lines.join(' ')}`;
    return row ? `  if (y + ${row}u < ${height}u) { ${text} }` : `  ${text}`;
  }).join('\n')}`;
}

/** Sums over the vectors of a layer's input. */
function featuresOf({ step, outputs, rows, ring }) {
  const products = ['x', 'y', 'z', 'w'].flatMap((lane, c) =>
    range(outputs).map((o) => {
      const sums = range(rows).map((row) => `s${row}_${o} = fma(w, vec4f(v${row}.${lane}), s${row}_${o});`);
      return `          { let w = weights[first + ${c * outputs + o}u]; ${sums.join(' ')} }`;
    }),
  );
  return `        let slot = u32(plane - ${ring.low}) % ${ring.count}u;
        let row = y + u32(j) * ${step.dilation}u;
        let column = x + u32(i) * ${step.dilation}u;
        for (var g = 0u; g < ${ring.groups}u; g++) {
          let at = ((slot * ${ring.groups}u + g) * ${ring.height}u + row) * ${ring.width}u + column;
          let first = (tap * ${ring.groups}u + g) * ${LANES * outputs}u;
${range(rows).map((row) => `          let v${row} = given[at + ${row * ring.width}u];`).join('\n')}
${products.join('\n')}
        }`;
}

/** Sums over the conformed volume, whose intensities are bytes. */
function intensitiesOf({ step, out, outputs }, [columns, rows]) {
  const half = (step.size - 1) / 2;
  const sums = range(outputs).map((o) => {
    return `s0_${o} = fma(weights[tap * ${outputs}u + ${o}u], vec4f(value), s0_${o});`;
  });
  return `        let column = i32(x) + ${out.low[0]} + (i - ${half}) * ${step.dilation};
        let row = i32(y) + ${out.low[1]} + (j - ${half}) * ${step.dilation};
        if (column < 0 || column >= ${columns} || row < 0 || row >= ${rows}) { continue; }
        let at = u32((plane * ${rows} + row) * ${columns} + column);
        let value = table[(given[at >> 2u] >> (8u * (at & 3u))) & 255u];
        ${sums.join(' ')}`;
}

/** The last layer, of which only the number of the largest output is kept. */
function headOf({ step, out, outputs, ring }, width, height) {
  const place = `(((z - ${ring.low}u) % ${ring.count}u * ${ring.groups}u + g) * ${ring.height}u + y) * ${ring.width}u + x`;
  const start = LANES * ring.groups * outputs;
  return `  var values: array<vec4f, ${ring.groups}>;
  for (var g = 0u; g < ${ring.groups}u; g++) { values[g] = given[${place}]; }
  var best = 0u;
  var largest = -3.4e38f;
  for (var o = 0u; o < ${outputs}u; o++) {
    var sum = weights[${start}u + o];
    for (var g = 0u; g < ${ring.groups}u; g++) {
      for (var c = 0u; c < ${LANES}u; c++) {
        sum = fma(weights[(g * ${LANES}u + c) * ${outputs}u + o], vec4f(values[g][c]), sum);
      }
    }
    for (var lane = 0u; lane < ${LANES}u; lane++) {
      let number = o * ${LANES}u + lane;
      if (number < ${step.outputs}u && sum[lane] > largest) { largest = sum[lane]; best = number; }
    }
  }
  made[((z - ${out.low[2]}u) * ${height}u + y) * ${width}u + x] = best;`;
}

/** A layer's program with its buffers. */
async function shader(device, code, buffers, uniform) {
  const entries = [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { hasDynamicOffset: true } }];
  const resources = [{ binding: 0, resource: { buffer: uniform, size: 8 } }];
  for (const [i, buffer] of buffers.entries()) {
    const type = i === 2 ? 'storage' : 'read-only-storage';
    entries.push({ binding: i + 1, visibility: GPUShaderStage.COMPUTE, buffer: { type } });
    resources.push({ binding: i + 1, resource: { buffer } });
  }
  const group = device.createBindGroupLayout({ entries });
  const pipeline = await device.createComputePipelineAsync({
    layout: device.createPipelineLayout({ bindGroupLayouts: [group] }),
    compute: { module: device.createShaderModule({ code }), entryPoint: 'main' },
  });
  return { pipeline, bindings: device.createBindGroup({ layout: group, entries: resources }) };
}

/** Hand over all jobs, in parts that take a moment each. */
async function run({ device, layers, jobs, shaders, stride, onProgress, signal }) {
  const costs = jobs.map(({ layer, planes }) => {
    const { step, out } = layers[layer];
    const area = (out.high[0] - out.low[0]) * (out.high[1] - out.low[1]);
    return (step.size ** 3 * step.inputs * step.outputs * area * planes) / 1e6;
  });
  const total = costs.reduce((sum, n) => sum + n);
  const lost = device.lost.then(({ message }) => {
    throw new Error(`the GPU was lost: ${message.split('\n')[0]}`);
  });
  // It is also lost when it is given back.
  lost.catch(() => {});
  let [done, job, part] = [0, 0, total / 1000];
  while (job < jobs.length) {
    const began = performance.now();
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let cost = 0; job < jobs.length && cost < part; job++) {
      const { layer, planes } = jobs[job];
      const { out, rows } = layers[layer];
      const [width, height] = sidesOf(out);
      pass.setPipeline(shaders[layer].pipeline);
      pass.setBindGroup(0, shaders[layer].bindings, [job * stride]);
      pass.dispatchWorkgroups(Math.ceil(width / THREADS), Math.ceil(height / rows), planes);
      cost += costs[job];
      done += costs[job];
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
    await Promise.race([device.queue.onSubmittedWorkDone(), lost]);
    onProgress(done, total);
    check(signal);
    part *= performance.now() - began < SHORT ? 1.5 : 0.7;
  }
}
