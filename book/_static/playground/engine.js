// The two networks on TensorFlow.js, forwards and backwards. Both are convolutions, ReLU, means, repetitions and A* A; the adjoint
// of each is one more such operation, so that the gradient costs what the image costs. (The library's own gradient of a
// convolution runs through a kernel that is many times slower.)
"use strict";
(() => {
const {n, size} = Playground;

// Bytes in a script, because a page opened from a folder may not fetch.
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
function halves(text) {                                    // float16 -> float32
  return Float32Array.from(new Uint16Array(bytes(text).buffer), h => {
    const sign = h & 0x8000 ? -1 : 1, exponent = (h >> 10) & 31, fraction = h & 1023;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  });
}

async function start() {
  const binary = URL.createObjectURL(new Blob([bytes(Playground.wasm)], {type: "application/wasm"}));
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);     // threads need headers that a plain host does not send
  if (!await tf.env().getAsync("WASM_HAS_SIMD_SUPPORT")) throw new Error("this browser's WebAssembly has no SIMD");
  const name = "tfjs-backend-wasm";
  tf.wasm.setWasmPaths({[`${name}.wasm`]: binary, [`${name}-simd.wasm`]: binary, [`${name}-threaded-simd.wasm`]: binary});
  if (!await tf.setBackend("wasm")) throw new Error("WebAssembly did not start");
  await tf.ready();
  URL.revokeObjectURL(binary);
  return Object.fromEntries(Object.entries(Playground.weights).map(([key, value]) => [key, network(value)]));
}

// Layers: a filter (height, width, in, out), the same for the way back, a bias.
function network({kind, layers, data}) {
  const values = halves(data);
  let at = 0;
  const convs = layers.map(shape => {
    const count = shape.reduce((a, b) => a * b), [, , , outputs] = shape;
    const filter = tf.tensor4d(values.slice(at, at + count), shape), bias = tf.tensor1d(values.slice(at + count, at + count + outputs));
    at += count + outputs;
    const used = shape[0] === 1 ? tf.slice(filter, [0, 0, 0, 0], [1, 1, shape[2], 2]) : filter;  // the image does not read s
    return {filter, bias, back: tf.transpose(tf.reverse(used, [0, 1]), [0, 1, 3, 2])};
  });
  return kind === "cascade" ? new Cascade(convs) : new UNet(convs);
}
const conv = (x, {filter, bias}, activation = "relu") =>
  tf.fused.conv2d({x, filter, strides: 1, pad: "same", bias, activation});
const back = (g, layer) => tf.conv2d(g, layer.back, 1, "same");
const behindReLU = (g, h) => tf.mul(g, tf.step(h));

// A* A as two real matrices on the columns.
function projector(lines) {
  const re = new Float32Array(size), im = new Float32Array(size), kernel = {re: new Float64Array(n), im: new Float64Array(n)};
  for (let d = 0; d < n; d++) {
    for (let k = 0; k < n; k++) {
      if (lines[k]) { kernel.re[d] += Math.cos(2 * Math.PI * k * d / n) / n; kernel.im[d] += Math.sin(2 * Math.PI * k * d / n) / n; }
    }
  }
  for (let i = 0; i < n; i++) {
    for (let j = 0; j < n; j++) { re[i * n + j] = kernel.re[(i - j + n) % n]; im[i * n + j] = kernel.im[(i - j + n) % n]; }
  }
  const a = tf.tensor2d(re, [n, n]), b = tf.tensor2d(im, [n, n]), turn = tf.tensor1d([-1, 1]);
  return {
    apply(x) {                                             // (re, im) of i z is (-im, re): swap and change one sign
      const flat = tf.reshape(x, [n, 2 * n]), side = tf.reshape(tf.matMul(b, flat), [1, n, n, 2]);
      return tf.add(tf.reshape(tf.matMul(a, flat), [1, n, n, 2]), tf.mul(tf.reverse(side, [3]), turn));
    },
    dispose() { tf.dispose([a, b, turn]); },
  };
}

class Cascade {                                            // networks.Cascade, five blocks of five convolutions
  constructor(convs) {
    this.blocks = [];
    for (let i = 0; i < convs.length; i += 5) this.blocks.push(convs.slice(i, i + 5));
  }
  forward(start, P) {
    const tape = [];
    let x = start;
    for (const block of this.blocks) {
      const hidden = [];
      let h = x;
      for (const layer of block.slice(0, 4)) hidden.push(h = conv(h, layer));
      tape.push(hidden);
      const v = tf.add(x, conv(h, block[4], "linear"));
      x = tf.add(start, tf.sub(v, P.apply(v)));            // measured lines as measured, the others as they came
    }
    return {x, tape};
  }
  backward(tape, gradient, P) {
    let g = gradient, total = null;
    for (let b = this.blocks.length - 1; b >= 0; b--) {
      total = total ? tf.add(total, g) : g;
      const gv = tf.sub(g, P.apply(g));
      let h = back(gv, this.blocks[b][4]);
      for (let i = 3; i >= 0; i--) h = back(behindReLU(h, tape[b][i]), this.blocks[b][i]);
      g = tf.add(gv, h);
    }
    return tf.add(total, g);
  }
}

const wider = x => tf.image.resizeNearestNeighbor(x, [2 * x.shape[1], 2 * x.shape[2]]);
const narrower = x => tf.avgPool(x, 2, 2, "valid");
class UNet {                                               // networks.zero_filled.ZeroFilledUNet, three levels
  constructor(convs) {
    this.down = [0, 2, 4].map(i => convs.slice(i, i + 2));
    this.up = [6, 8].map(i => convs.slice(i, i + 2));
    this.last = convs[10];
  }
  forward(start) {
    const tape = [];
    const pair = (x, [first, second]) => {
      const a = conv(x, first), b = conv(a, second);
      tape.push([a, b]);
      return b;
    };
    const top = pair(start, this.down[0]), middle = pair(narrower(top), this.down[1]), low = pair(narrower(middle), this.down[2]);
    const risen = pair(tf.concat([middle, wider(low)], 3), this.up[0]);
    const out = conv(pair(tf.concat([top, wider(risen)], 3), this.up[1]), this.last, "linear");
    const [change, logVariance] = tf.split(out, [2, 1], 3);
    return {x: tf.add(start, change), tape, logVariance};
  }
  backward(tape, gradient) {
    const pair = (g, [first, second], [a, b]) => back(behindReLU(back(behindReLU(g, b), second), a), first);
    const channels = g => g.shape[3];
    const apart = (g, skip) => tf.split(g, [channels(skip), channels(g) - channels(skip)], 3);
    const [top, middle, low, risen, last] = tape;
    const [gTop, gRisen] = apart(pair(back(gradient, this.last), this.up[1], last), top[1]);
    const [gMiddle, gLow] = apart(pair(tf.mul(4, narrower(gRisen)), this.up[0], risen), middle[1]);  // adjoint of repeating: a sum
    const gPooled = pair(tf.mul(4, narrower(gLow)), this.down[2], low);
    const gBelow = pair(tf.add(gMiddle, tf.mul(0.25, wider(gPooled))), this.down[1], middle);
    return tf.add(gradient, pair(tf.add(gTop, tf.mul(0.25, wider(gBelow))), this.down[0], top));
  }
}

const tensor = x => {
  const values = new Float32Array(2 * size);
  for (let i = 0; i < size; i++) { values[2 * i] = x.re[i]; values[2 * i + 1] = x.im[i]; }
  return tf.tensor4d(values, [1, n, n, 2]);
};
const image = t => {
  const values = t.dataSync(), x = Playground.blank();
  for (let i = 0; i < size; i++) { x.re[i] = values[2 * i]; x.im[i] = values[2 * i + 1]; }
  return x;
};

// f(y), y seen as the zero-filled image; and what the network itself says of its error, where it says anything.
function reconstruct(net, zeroFilled, P) {
  return tf.tidy(() => {
    const {x, logVariance} = net.forward(tensor(zeroFilled), P);
    return {x: image(x), spread: logVariance ? Float64Array.from(tf.exp(tf.mul(0.5, logVariance)).dataSync()) : null};
  });
}

// f(y), and A* A of the gradient of 1/2 ||f(y) - goal||^2 there: the gradient with respect to a change of the scan.
function climb(net, zeroFilled, goal, P) {
  return tf.tidy(() => {
    const {x, tape} = net.forward(tensor(zeroFilled), P);
    return {x: image(x), direction: image(P.apply(net.backward(tape, tf.sub(x, tensor(goal)), P)))};
  });
}

Object.assign(Playground, {start, projector, reconstruct, climb, halves});
})();
