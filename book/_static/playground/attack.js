// The worst-case search of chapter 07, attacks.worst_case with its defaults: four power iterations find the direction that the
// network amplifies most, then the norm grows by a fifth a step while the direction climbs on the sphere.
"use strict";
(() => {
const {add, dot, norm, scale, unit, project, reconstruct, climb, gaussian} = Playground;
const first = 1e-3, growth = 1.2, step = 0.3, momentum = 0.5;

class Attack {
  // net: a network; x: the scan; y: its zero-filled image; strength: the last ||r|| / ||x||; start: a direction to begin with.
  constructor({net, P, lines, x, y, strength, seed = 0, start = null, powers = 4}) {
    Object.assign(this, {net, P, lines, y, powers, n: norm(x), limit: strength * norm(x)});
    this.clean = reconstruct(net, y, P).x;
    this.r = scale(unit(start ?? gaussian(seed)), first * this.n);
    this.noise = unit(gaussian(seed + 1));
    this.velocity = null;
    this.steps = 0;
  }
  get strength() { return norm(this.r) / this.n; }
  get done() { return norm(this.r) >= this.limit * (1 - 1e-5); }
  perturbed(r) { return add(this.y, project(r, this.lines)); }
  gradient(r, goal = this.clean) { return climb(this.net, this.perturbed(r), goal, this.P); }

  // One gradient: the first ones only turn the direction.
  advance() {
    const {direction} = this.gradient(this.r), size = norm(this.r);
    if (!(norm(direction) > 0)) throw new Error("the network does not react");
    if (this.powers > 0) {
      this.powers--;
      this.r = scale(unit(direction), size);
      return;
    }
    const u = unit(this.r), d = unit(direction), tangent = add(d, u, -dot(u, d));
    this.velocity = this.velocity ? add(tangent, this.velocity, momentum) : tangent;
    this.r = scale(unit(add(u, this.velocity, step)), Math.min(growth * size, this.limit));
    this.steps++;
  }
  // The twin: noise of exactly the same norm. It changes the network's answer as an accident of that size would.
  get twin() { return scale(this.noise, norm(this.r)); }
  answers() {
    const hit = reconstruct(this.net, this.perturbed(this.r), this.P), accident = reconstruct(this.net, this.perturbed(this.twin), this.P);
    const gain = image => norm(add(image, this.clean, -1)) / norm(this.r);
    return {hit, accident, amplification: gain(hit.x), twinAmplification: gain(accident.x)};
  }
}
Playground.Attack = Attack;
})();
