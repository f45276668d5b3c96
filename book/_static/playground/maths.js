// The scanner, total variation and the numbers: plain arrays, no engine.
// An image is complex: two Float64Arrays {re, im} of n * n values, row after row; n = 128.
"use strict";
(() => {
const n = 128, size = n * n;
const blank = () => ({re: new Float64Array(size), im: new Float64Array(size)});
const copy = x => ({re: x.re.slice(), im: x.im.slice()});

// Random numbers from a seed, so that the same settings show the same picture.
function generator(seed) {
  let state = seed >>> 0;
  const uniform = () => {                                  // mulberry32
    state = (state + 0x6D2B79F5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return {uniform, normal};
}

function gaussian(seed) {
  const {normal} = generator(seed), x = blank();
  for (let i = 0; i < size; i++) { x.re[i] = normal(); x.im[i] = normal(); }
  return x;
}

// operators.masks.variable_density_lines: the 8 middle rows, the rest drawn without replacement. Row 0 is the zero frequency.
function drawLines(count, seed) {
  const {uniform} = generator(seed), chosen = new Uint8Array(n);
  for (let i = n / 2 - 4; i < n / 2 + 4; i++) chosen[i] = 1;
  const density = Float64Array.from({length: n}, (_, i) => Math.exp(-0.5 * ((i - n / 2) / (n / 10)) ** 2) + count / (2 * n));
  for (let missing = count - 8; missing > 0; missing--) {
    let total = 0;
    for (let i = 0; i < n; i++) if (!chosen[i]) total += density[i];
    let left = uniform() * total, pick = -1;
    for (let i = 0; i < n; i++) if (!chosen[i]) { pick = i; left -= density[i]; if (left < 0) break; }
    chosen[pick] = 1;
  }
  return Uint8Array.from({length: n}, (_, k) => chosen[(k + n / 2) % n]);
}

// A* A, for whole rows of k-space: along the rows the two transforms cancel, so it is F* M F down the columns. A radix-2
// transform without reordering: forward it leaves bit-reversed rows, backward it takes them.
const reversed = Uint16Array.from({length: n}, (_, k) => parseInt(k.toString(2).padStart(7, "0").split("").reverse().join(""), 2));
const cosines = Float64Array.from({length: n}, (_, k) => Math.cos(2 * Math.PI * k / n));
const sines = Float64Array.from({length: n}, (_, k) => Math.sin(2 * Math.PI * k / n));

function project(x, lines) {
  const {re, im} = copy(x);
  for (let half = n / 2; half >= 1; half /= 2) {
    for (let start = 0; start < n; start += 2 * half) {
      for (let k = 0; k < half; k++) {
        const c = cosines[k * (n / 2) / half], s = -sines[k * (n / 2) / half], a = (start + k) * n, b = a + half * n;
        for (let j = 0; j < n; j++) {
          const ur = re[a + j], ui = im[a + j], vr = re[b + j], vi = im[b + j], dr = ur - vr, di = ui - vi;
          re[a + j] = ur + vr; im[a + j] = ui + vi;
          re[b + j] = dr * c - di * s; im[b + j] = dr * s + di * c;
        }
      }
    }
  }
  for (let k = 0; k < n; k++) {
    const weight = lines[reversed[k]] / n;
    for (let j = k * n; j < (k + 1) * n; j++) { re[j] *= weight; im[j] *= weight; }
  }
  for (let half = 1; half < n; half *= 2) {
    for (let start = 0; start < n; start += 2 * half) {
      for (let k = 0; k < half; k++) {
        const c = cosines[k * (n / 2) / half], s = sines[k * (n / 2) / half], a = (start + k) * n, b = a + half * n;
        for (let j = 0; j < n; j++) {
          const vr = re[b + j] * c - im[b + j] * s, vi = re[b + j] * s + im[b + j] * c, ur = re[a + j], ui = im[a + j];
          re[a + j] = ur + vr; im[a + j] = ui + vi;
          re[b + j] = ur - vr; im[b + j] = ui - vi;
        }
      }
    }
  }
  return {re, im};
}

// What the scanner gives, seen as the zero-filled image A* (A x + e): for white e of relative size `noise`.
function measure(x, lines, noise, seed) {
  const y = project(x, lines);
  if (!noise) return y;
  const e = project(gaussian(seed), lines);
  return add(y, e, noise * norm(y) / norm(e));
}

// solvers.tv on a mask, the same iterates: primal-dual hybrid gradient on 1/2 ||A x - y||^2 + weight TV(x), x_0 = A* y.
// `pause` is awaited now and then, so that the page stays alive; it returns false to give up.
async function totalVariation(zeroFilled, lines, weight, iterations, pause = null) {
  const tau = 0.03 / weight, s = 1 / (8 * tau), pull = tau / (1 + tau);
  let x = copy(zeroFilled), bar = copy(zeroFilled);
  const dr = new Float64Array(size), di = new Float64Array(size), rr = new Float64Array(size), ri = new Float64Array(size);
  for (let k = 0; k < iterations; k++) {
    if (pause && k % 10 === 9 && await pause() === false) return null;
    for (let i = 0; i < n; i++) {
      for (let j = 0, p = i * n; j < n; j++, p++) {
        const a = dr[p] + (i < n - 1 ? s * (bar.re[p + n] - bar.re[p]) : 0), b = di[p] + (i < n - 1 ? s * (bar.im[p + n] - bar.im[p]) : 0);
        const c = rr[p] + (j < n - 1 ? s * (bar.re[p + 1] - bar.re[p]) : 0), d = ri[p] + (j < n - 1 ? s * (bar.im[p + 1] - bar.im[p]) : 0);
        const length = Math.sqrt(a * a + b * b + c * c + d * d), shrink = length > weight ? weight / length : 1;
        dr[p] = a * shrink; di[p] = b * shrink; rr[p] = c * shrink; ri[p] = d * shrink;
      }
    }
    const v = copy(x);
    for (let i = 0; i < n; i++) {
      for (let j = 0, p = i * n; j < n; j++, p++) {        // minus tau times the adjoint of the gradient
        v.re[p] += tau * (dr[p] - (i ? dr[p - n] : 0) + rr[p] - (j ? rr[p - 1] : 0));
        v.im[p] += tau * (di[p] - (i ? di[p - n] : 0) + ri[p] - (j ? ri[p - 1] : 0));
      }
    }
    const misfit = project(v, lines);
    for (let p = 0; p < size; p++) {
      const re = v.re[p] - pull * (misfit.re[p] - zeroFilled.re[p]), im = v.im[p] - pull * (misfit.im[p] - zeroFilled.im[p]);
      bar.re[p] = 2 * re - x.re[p]; bar.im[p] = 2 * im - x.im[p];
      x.re[p] = re; x.im[p] = im;
    }
  }
  return x;
}

// Vectors.
function add(x, y, factor = 1) {
  const z = copy(x);
  for (let i = 0; i < size; i++) { z.re[i] += factor * y.re[i]; z.im[i] += factor * y.im[i]; }
  return z;
}
function scale(x, factor) {
  const z = copy(x);
  for (let i = 0; i < size; i++) { z.re[i] *= factor; z.im[i] *= factor; }
  return z;
}
function dot(x, y) {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += x.re[i] * y.re[i] + x.im[i] * y.im[i];
  return sum;
}
const norm = x => Math.sqrt(dot(x, x));
const unit = x => scale(x, 1 / Math.max(norm(x), 1e-300));
const magnitude = x => Float64Array.from(x.re, (re, i) => Math.hypot(re, x.im[i]));

// metrics.psnr_db: magnitudes, peak of the reference.
function psnr(x, truth) {
  let peak = 0, sum = 0;
  for (let i = 0; i < size; i++) {
    const t = Math.hypot(truth.re[i], truth.im[i]);
    peak = Math.max(peak, t);
    sum += (Math.hypot(x.re[i], x.im[i]) - t) ** 2;
  }
  return 10 * Math.log10(peak * peak * size / sum);
}

// How well a map follows another: Pearson's correlation over the pixels.
function pearson(a, b) {
  let ma = 0, mb = 0, ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < size; i++) { ma += a[i] / size; mb += b[i] / size; }
  for (let i = 0; i < size; i++) { ab += (a[i] - ma) * (b[i] - mb); aa += (a[i] - ma) ** 2; bb += (b[i] - mb) ** 2; }
  return ab / Math.sqrt(aa * bb);
}

window.Playground = {n, size, blank, copy, generator, gaussian, drawLines, project, measure, totalVariation, add, scale, dot, norm,
                     unit, magnitude, psnr, pearson};
})();
