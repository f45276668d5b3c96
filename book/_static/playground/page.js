// The page itself: controls, pictures, the attack on show. Every picture has one grey window, 0 to 1, so that they compare.
"use strict";
(() => {
const P = Playground, {n, size} = P;
const $ = id => document.getElementById(`pg-${id}`);
const db = value => Number.isFinite(value) ? `${value.toFixed(1)} dB` : "exact";
const breathe = () => new Promise(done => setTimeout(done));
const state = {seed: 0, stamps: [], pen: {row: 40, column: 64}, attack: null, running: false, turn: 0};
let networks, scan, truth, lines, projector, measured, answer;

// --- pictures

function draw(canvas, values, low = 0, high = 1) {
  const context = canvas.getContext("2d"), pixels = context.createImageData(n, n);
  for (let i = 0; i < size; i++) {
    const grey = Math.round(255 * Math.min(1, Math.max(0, (values[i] - low) / (high - low))));
    pixels.data.set([grey, grey, grey, 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
}
function show(name, x, note) { draw($(name), P.magnitude(x)); $(`${name}-note`).textContent = note; }

function drawTruth() {
  draw($("truth"), P.magnitude(truth));
  const context = $("truth").getContext("2d"), {row, column} = state.pen;
  context.strokeStyle = "#ffb000";                         // the pen, seen only while the picture has the keyboard
  if (document.activeElement === $("truth")) {
    context.beginPath();
    context.moveTo(column - 5, row + .5); context.lineTo(column + 6, row + .5);
    context.moveTo(column + .5, row - 5); context.lineTo(column + .5, row + 6);
    context.stroke();
  }
}

// --- the scan and what is drawn on it

function stamp({shape, text, contrast, width, row, column}) {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = n;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.translate(column + .5, row + .5);
  if (shape === "text") {
    context.font = `bold ${2 * width}px sans-serif`;
    context.textAlign = "center"; context.textBaseline = "middle";
    context.fillText(text, 0, 0);
  } else if (shape === "heart") {
    const w = width;
    context.beginPath();
    context.moveTo(0, w);
    context.bezierCurveTo(-1.8 * w, -.3 * w, -.8 * w, -1.3 * w, 0, -.4 * w);
    context.bezierCurveTo(.8 * w, -1.3 * w, 1.8 * w, -.3 * w, 0, w);
    context.fill();
  } else {
    context.beginPath();
    context.arc(0, 0, width / 2, 0, 2 * Math.PI);
    context.fill();
  }
  const alpha = context.getImageData(0, 0, n, n).data;
  return Float64Array.from({length: size}, (_, i) => contrast * alpha[4 * i + 3] / 255);
}

// A detail changes the brightness and leaves the phase.
function compose() {
  truth = P.copy(scan);
  for (const mark of state.stamps.map(stamp)) {
    for (let i = 0; i < size; i++) {
      if (!mark[i]) continue;
      const now = Math.hypot(truth.re[i], truth.im[i]), next = Math.min(1, Math.max(0, now + mark[i]));
      const [cos, sin] = now > 1e-6 ? [truth.re[i] / now, truth.im[i] / now] : [1, 0];
      truth.re[i] = next * cos; truth.im[i] = next * sin;
    }
  }
}

function putDetail(row, column) {
  state.pen = {row, column};
  state.stamps.push({shape: $("shape").value, text: $("text").value, contrast: +$("contrast").value, width: +$("width").value, row, column});
  state.stamps = state.stamps.slice(-60);
  compose(); drawTruth(); renew();
}

// --- one answer: zero-filled and network at once, total variation as soon as it is ready

let asked = 0, busy = false;
async function renew() {
  asked++;
  stopAttack();
  if (busy) return;                                        // the answer under way begins anew
  busy = true;
  try {
    while (true) {
      const number = asked;
      await breathe();
      if (number !== asked) continue;
      if (!await compute(() => number === asked)) continue;
      break;
    }
  } catch (error) { giveUp(error); }
  busy = false;
}

async function compute(current) {
  const began = performance.now(), net = networks[$("network").value];
  measured = P.measure(truth, lines, +$("noise").value / 100, state.seed + 1000);
  const {x, spread} = P.reconstruct(net, measured, projector);
  const alarm = spread ?? P.magnitude(P.add(x, measured, -1));
  answer = {network: x, networkMs: performance.now() - began};
  const psnr = {zero: P.psnr(measured, truth), network: P.psnr(x, truth)};
  drawTruth();
  show("zero", measured, db(psnr.zero));
  show("answer", x, db(psnr.network));
  const error = P.magnitude(P.add(x, truth, -1)), top = Math.max(...alarm);
  draw($("alarm"), alarm, 0, top);
  $("alarm-name").textContent = spread ? "Its own alarm" : "A null alarm";
  $("alarm-note").textContent = `follows the true error with r = ${P.pearson(alarm, error).toFixed(2)}`;
  $("alarm-help").textContent = spread
    ? "Alarm: the standard deviation that this U-Net predicts for its own error (a mean-variance output)."
    : "Alarm: what the network has added to the zero-filled image. It knows nothing of uncertainty; this network ships with no alarm "
      + "of its own, and one that is to be believed has to be ahead of this one.";
  $("stable-note").textContent = "working ...";
  resetAttack();
  const tvBegan = performance.now(), stable = await variation(measured, current);
  if (!stable) return false;
  answer.stable = stable;
  psnr.stable = P.psnr(stable, truth);
  show("stable", stable, db(psnr.stable));
  const times = {network: answer.networkMs, tv: performance.now() - tvBegan};
  $("root").dataset.ms = JSON.stringify(times);
  $("times").textContent = `On this device: zero-filled and network ${times.network.toFixed(0)} ms, total variation ${times.tv.toFixed(0)} ms.`;
  $("state").textContent = `Network ${db(psnr.network)}, total variation ${db(psnr.stable)}, zero-filled ${db(psnr.zero)}.`;
  $("root").dataset.ready = String(+($("root").dataset.ready ?? 0) + 1);
  return true;
}
const variation = (y, current) =>
  P.totalVariation(y, lines, P.scans.tv.weight, P.scans.tv.n_iter, async () => { await breathe(); return current(); });

// --- the attack

function resetAttack() {
  stopAttack();
  state.attack = null;
  state.curve = [];
  for (const name of ["change", "hit", "accident", "stablehit", "attacked"]) {
    $(name).getContext("2d").clearRect(0, 0, n, n);
    $(`${name}-note`).textContent = "";
  }
  $("chart").replaceChildren();
  $("attack-state").textContent = "Not attacked yet.";
  $("attack-step").textContent = "";
}
function stopAttack() { state.running = false; state.turn++; $("stop").disabled = true; }

async function attack(steps) {
  if (busy || state.running) return;                       // the pictures above come first
  const turn = ++state.turn, current = () => turn === state.turn;
  state.running = true;
  $("stop").disabled = false;
  try {
    if (!state.attack || state.attack.done) {
      resetAttack();
      state.turn = turn; state.running = true; $("stop").disabled = false;
      state.attack = new P.Attack({net: networks[$("network").value], P: projector, lines, x: truth, y: measured,
                                   strength: +$("strength").value / 100, seed: state.seed + 2000});
      await note(current);
    }
    const {attack} = state;
    attack.limit = +$("strength").value / 100 * attack.n;
    for (let k = 0; k < steps && current() && !attack.done; k++) {
      while (attack.powers > 0 && current()) {
        $("attack-step").textContent = `Looking for the direction that the network amplifies most: ${attack.powers} to go.`;
        await breathe();
        attack.advance();
      }
      if (!current()) return;
      attack.advance();
      await note(current);
      await breathe();
    }
    if (current() && state.curve.length > 1) conclude();
  } catch (error) { giveUp(error); }
  if (current()) stopAttack();
}

// One point of the curve. Total variation takes longest: on every fourth step and on the last.
async function note(current) {
  const {attack, curve} = state, {hit, accident, amplification, twinAmplification} = attack.answers();
  const attacked = P.add(truth, attack.r), largest = Math.max(...P.magnitude(attack.r));
  const point = {strength: 100 * attack.strength, network: P.psnr(hit.x, truth), twin: P.psnr(accident.x, truth), amplification,
                 twinAmplification};
  draw($("change"), P.magnitude(attack.r), 0, largest);
  $("change-note").textContent = `x ${(1 / largest).toFixed(0)}, to be seen at all`;
  show("attacked", attacked, db(P.psnr(attacked, truth)));
  show("hit", hit.x, db(point.network));
  show("accident", accident.x, db(point.twin));
  if (attack.steps % 4 === 1 || attack.done || !curve.length) {
    const stable = attack.steps ? await variation(attack.perturbed(attack.r), current) : answer.stable;
    if (!stable) return;
    point.stable = P.psnr(stable, truth);
    point.stableAmplification = attack.steps ? P.norm(P.add(stable, answer.stable, -1)) / P.norm(attack.r) : NaN;
    show("stablehit", stable, db(point.stable));
  }
  curve.push(point);
  $("attack-step").textContent = `Step ${attack.steps}: the change is ${point.strength.toFixed(2)} % of the scan; `
    + `the network amplifies it ${amplification.toFixed(1)} times, the random one ${twinAmplification.toFixed(1)} times.`;
  chart(curve);
}

const fell = (from, to) => `${from - to < 0.05 ? "stayed at" : `fell from ${db(from)} to`} ${db(to)}`;
function conclude() {
  const first = state.curve[0], last = state.curve.at(-1), stable = state.curve.filter(point => point.stable !== undefined).at(-1);
  const size = `${last.strength.toFixed(1)} % of the scan`;
  $("attack-state").textContent = `A change of ${size}, chosen against the network: its image ${fell(first.network, last.network)} and moved `
    + `${last.amplification.toFixed(1)} times as far as the scan. After a random change of the same size it ${fell(first.network, last.twin)} `
    + `(moved ${last.twinAmplification.toFixed(1)} times as far). Total variation, on the data chosen against the network, `
    + `${fell(first.stable, stable.stable)} (${stable.stableAmplification.toFixed(1)} times as far).`;
  $("root").dataset.attack = JSON.stringify({...last, stable: stable.stable, stableAmplification: stable.stableAmplification,
                                             clean: first.network, stableClean: first.stable});
}

const LINES = {network: ["network, worst case", "#d55e00", ""], twin: ["network, random change", "#0072b2", "6 4"],
               stable: ["total variation, worst case", "#009e73", "2 3"]};
function chart(curve) {
  const svg = (name, attributes, text) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const values = curve.flatMap(point => Object.keys(LINES).map(key => point[key]).filter(v => v !== undefined));
  const low = Math.floor((Math.min(...values) - 1) / 5) * 5, high = Math.ceil((Math.max(...values) + 1) / 5) * 5;
  const end = Math.max(+$("strength").value, curve.at(-1).strength);
  const across = s => 44 + 440 * s / end, up = v => 190 - 175 * (v - low) / (high - low), parts = [];
  for (let v = low; v <= high; v += 5) {
    parts.push(svg("line", {x1: 44, x2: 484, y1: up(v), y2: up(v), class: "grid"}), svg("text", {x: 38, y: up(v) + 4, class: "right"}, v));
  }
  for (let k = 0; k <= 4; k++) parts.push(svg("text", {x: across(end * k / 4), y: 208, class: "middle"}, +(end * k / 4).toFixed(2)));
  parts.push(svg("text", {x: 264, y: 226, class: "middle"}, "size of the change, % of the scan"), svg("text", {x: 4, y: 10}, "dB"));
  for (const [key, [, colour, dashes]] of Object.entries(LINES)) {
    const known = curve.filter(point => point[key] !== undefined);
    parts.push(svg("polyline", {points: known.map(point => `${across(point.strength)},${up(point[key])}`).join(" "), fill: "none",
                                stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dashes}));
    for (const point of known) parts.push(svg("circle", {cx: across(point.strength), cy: up(point[key]), r: 2.5, fill: colour}));
  }
  $("chart").replaceChildren(...parts);
}

// --- no engine: what was recorded

async function giveUp(error) {
  stopAttack();
  const why = /memory/i.test(error?.message) ? "it ran out of memory" : error?.message ?? String(error);
  $("state").textContent = `This browser cannot compute the networks (${why}). Below is a recording: the same attack, made in Python.`;
  $("live").hidden = true;
  $("recorded").hidden = false;
  if (!P.exhibit) {
    await new Promise(done => {
      const script = document.createElement("script");
      script.src = $("root").dataset.exhibit;
      script.onload = script.onerror = done;
      document.head.append(script);
    });
  }
  if (!P.exhibit) { $("recorded-note").textContent = "The recording could not be read either."; return; }
  const names = [...new Set(P.exhibit.frames.map(frame => frame.network))];
  $("recorded-network").replaceChildren(...names.map(name => new Option(P.weights?.[name]?.title ?? name, name)));
  const frame = () => {
    const frames = P.exhibit.frames.filter(candidate => candidate.network === $("recorded-network").value);
    const chosen = frames[+$("recorded-strength").value], scores = Object.entries(chosen.psnr_db);
    $("recorded-picture").src = chosen.png;
    $("recorded-value").textContent = `${(100 * chosen.strength).toFixed(1)} %`;
    $("recorded-note").textContent = scores.map(([what, value]) => `${what}: ${db(value ?? Infinity)}`).join("; ") + ".";
  };
  for (const id of ["recorded-network", "recorded-strength"]) $(id).addEventListener("input", frame);
  frame();
  $("root").dataset.recorded = "yes";
}

// --- controls

const units = {contrast: v => (v > 0 ? "+" : "") + (+v).toFixed(2), width: v => `${v} pixels`, share: v => `${v} of 128 lines (${Math.round(v / 1.28)} %)`,
               noise: v => `${v} % of the data`, strength: v => `${v} % of the scan`};
function say(id) { $(`${id}-value`).textContent = units[id]($(id).value); $(id).setAttribute("aria-valuetext", units[id]($(id).value)); }

function sample() {                                        // at first the lines that the book's chapters use
  const share = +$("share").value, given = P.scans.lines;
  lines = state.seed === 0 && share === given.reduce((a, b) => a + b) ? Uint8Array.from(given) : P.drawLines(share, state.seed + share);
  projector?.dispose();
  projector = P.projector(lines);
  draw($("mask"), Float64Array.from({length: size}, (_, i) => lines[(Math.floor(i / n) + n / 2) % n]));
}

function takeScan() {
  const values = P.halves(P.scans.images[$("scan").value].data);
  scan = P.blank();
  for (let i = 0; i < size; i++) { scan.re[i] = values[2 * i]; scan.im[i] = values[2 * i + 1]; }
  compose();
}

function connect() {
  const on = (id, event, action) => $(id).addEventListener(event, action);
  for (const id of Object.keys(units)) { say(id); on(id, "input", () => say(id)); }
  on("scan", "input", () => { takeScan(); renew(); });
  on("network", "input", renew);
  on("share", "input", () => { sample(); renew(); });
  on("redraw", "click", () => { state.seed++; sample(); renew(); });
  on("noise", "input", renew);
  on("undo", "click", () => { state.stamps.pop(); compose(); renew(); });
  on("clear", "click", () => { state.stamps = []; compose(); renew(); });
  on("attack", "click", () => attack(Infinity));
  on("step", "click", () => attack(1));
  on("stop", "click", () => { stopAttack(); if (state.curve?.length > 1 && state.curve.some(p => p.stableAmplification > 0)) conclude(); });
  on("reset", "click", resetAttack);
  const canvas = $("truth");
  const place = event => {
    const box = canvas.getBoundingClientRect(), at = (value, length) => Math.min(n - 1, Math.max(0, Math.floor(n * value / length)));
    return [at(event.clientY - box.top, box.height), at(event.clientX - box.left, box.width)];
  };
  let last = null;
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    putDetail(...last);
  });
  canvas.addEventListener("pointermove", event => {        // dots join to a line, other shapes are put once
    if (!last || $("shape").value !== "dot") return;
    const now = place(event);
    if (Math.hypot(now[0] - last[0], now[1] - last[1]) >= +$("width").value) putDetail(...(last = now));
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => { last = null; });
  canvas.addEventListener("keydown", event => {
    const moves = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]}, move = moves[event.key];
    const step = event.shiftKey ? 1 : 4, inside = value => Math.min(n - 1, Math.max(0, value));
    if (move) state.pen = {row: inside(state.pen.row + step * move[0]), column: inside(state.pen.column + step * move[1])};
    else if (event.key === "Enter" || event.key === " ") putDetail(state.pen.row, state.pen.column);
    else if (event.key === "Backspace" || event.key === "Delete") { state.stamps.pop(); compose(); renew(); }
    else return;
    event.preventDefault();
    drawTruth();
  });
  for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => drawTruth());
}

async function open() {
  try {
    if (typeof WebAssembly === "undefined") throw new Error("it has no WebAssembly");
    if (!window.tf || !P.start || !P.weights || !P.scans || !P.wasm) throw new Error("a part of the page is missing");
    networks = await P.start();
    $("network").replaceChildren(...Object.entries(P.weights).map(([name, {title}]) => new Option(title, name)));
    $("scan").replaceChildren(...P.scans.images.map(({title}, i) => new Option(title, i)));
    $("credit").textContent = `Images: ${P.scans.source}.`;
    connect();
    takeScan();
    sample();
    $("live").hidden = false;
    await renew();
    Object.assign(P, {networks});
  } catch (error) { giveUp(error); }
}
open();
})();
