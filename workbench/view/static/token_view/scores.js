// The numbers of a token view: every scorer at every step. A 16-bit code is an index into the scorer's book of values.

const TOP = 65534; // a probability of 1
const NONE = 65535; // no score

const bytesOf = (view) => view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength);

/** The index of the first entry of a sorted array that is not below `value`, or (`after`) that is above it. */
const bisect = (sorted, value, after = false) => {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (after ? sorted[middle] <= value : sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
};

class Scores {
  constructor(head, codes, books, details) {
    this.head = head;
    this.count = head.spans.length;
    this.codes = new Uint16Array(bytesOf(codes));
    this.details = details.byteLength ? new Uint16Array(bytesOf(details)) : null;
    this.layers = head.layers;
    this.by = "value"; // what colour goes by, for all scorers: value, rank or logarithm
    this.middle = (head.palette.length - 1) / 2; // the step of the palette that has no colour
    const all = new Float32Array(bytesOf(books));
    let [row, first] = [0, 0];
    for (const layer of this.layers) {
      layer.row = row;
      layer.book = all.subarray(first, first + layer.size);
      row += layer.steps.length;
      first += layer.size;
    }
    this.steps = [...new Set(this.layers.flatMap((layer) => layer.steps))].sort((a, b) => a - b);
    this.spans = Int8Array.from(head.spans, (c) => (c === "-" ? -1 : Number(c)));
    this.units = { token: this.byToken(), word: this.byWord() };
  }

  layer(name) {
    return this.layers.find((layer) => layer.name === name) ?? this.layers[0];
  }

  byToken() {
    return { of: Uint32Array.from({ length: this.count }, (_, i) => i), spans: this.spans, count: this.count };
  }

  /** Words: which of them each token is in, and whether one of its tokens is in a labelled span. */
  byWord() {
    const of = new Uint32Array(this.count);
    let word = -1;
    for (const sample of this.head.samples) {
      for (let i = 0; i < sample.words.length; i++) {
        if (i === 0 || sample.words[i] === "1") word++;
        of[sample.first + i] = word;
      }
    }
    const spans = new Int8Array(word + 1).fill(-1);
    for (let i = 0; i < this.count; i++) spans[of[i]] = Math.max(spans[of[i]], this.spans[i]);
    return { of, spans, count: word + 1 };
  }

  /** A scorer's score of a token at its newest step up to `step` (its first where it has none so early), or NaN. */
  value(layer, step, token) {
    const code = this.codes[this.row(layer, step) * this.count + token];
    return code === NONE ? NaN : layer.book[code];
  }

  row(layer, step) {
    return layer.row + Math.max(0, bisect(layer.steps, step, true) - 1);
  }

  /** The step whose scores are shown at `step`. */
  stepOf(layer, step) {
    return layer.steps[this.row(layer, step) - layer.row];
  }

  /** Which samples have a score there; all, where none has. */
  scored(layer, step) {
    const first = this.row(layer, step) * this.count;
    const has = this.head.samples.map((sample) => {
      const at = first + sample.first;
      return this.codes.subarray(at, at + sample.texts.length).some((code) => code !== NONE);
    });
    return has.includes(true) ? has : has.fill(true);
  }

  /** A score a unit: tokens as they are, words as the mean of their tokens. The last result is kept. */
  values(layer, step, unit) {
    const key = `${this.row(layer, step)} ${unit}`;
    if (this.kept?.key !== key) this.kept = { key, values: this.decoded(layer, step, unit) };
    return this.kept.values;
  }

  decoded(layer, step, unit) {
    const first = this.row(layer, step) * this.count;
    const tokens = new Float32Array(this.count);
    for (let i = 0; i < this.count; i++) {
      const code = this.codes[first + i];
      tokens[i] = code === NONE ? NaN : layer.book[code];
    }
    if (unit === "token") return tokens;
    const { of, count } = this.units.word;
    const sums = new Float64Array(count);
    const sizes = new Uint32Array(count);
    for (let i = 0; i < this.count; i++) {
      if (Number.isNaN(tokens[i])) continue;
      sums[of[i]] += tokens[i];
      sizes[of[i]]++;
    }
    return Float32Array.from(sums, (sum, i) => sum / sizes[i]);
  }

  /** Strength of colour, 0..1, or -1..1 where two hues are used; as `Scale.place` of the static views. */
  place(layer, value) {
    const { low, high, quantiles, floor, top } = layer.scale;
    const signed = low < 0;
    if (this.by === "value") return signed ? value / high : (value - low) / (high - low || 1);
    const sign = signed ? Math.sign(value) : 1;
    const size = signed ? Math.abs(value) : value;
    if (this.by === "rank") return sign * Math.min(1, (bisect(quantiles, size) + bisect(quantiles, size, true)) / 200);
    if (size <= floor || !(floor > 0 && floor < top)) return sign * (size >= top && top > 0 ? 1 : 0);
    return sign * Math.min(1, Math.log(size / floor) / Math.log(top / floor));
  }

  /** The score at a place of the scale, as the threshold's slider needs it. */
  at(layer, place) {
    const { low, high, quantiles, floor, top } = layer.scale;
    const signed = low < 0;
    if (this.by === "value") return signed ? place * high : low + place * (high - low);
    const [sign, size] = signed ? [Math.sign(place), Math.abs(place)] : [1, place];
    if (this.by === "rank") return sign * quantiles[Math.round(size * (quantiles.length - 1))];
    return size ? sign * floor * (top / floor) ** size : 0;
  }

  /** Which colour of the palette a score has. */
  level(layer, value) {
    if (!layer.scale || layer.scale.flat || Number.isNaN(value)) return this.middle;
    return this.middle + Math.round(this.middle * this.place(layer, value));
  }

  /** Whether a threshold selects a score: at or above it, or at or below it where it is the fall that counts. */
  selects(layer, value, threshold) {
    if (threshold === null) return false;
    const limit = Math.fround(threshold); // as the scores are
    return layer.falls ? value <= limit : value >= limit;
  }

  /** What a threshold selects, and how well that matches the labelled spans. */
  matches(layer, step, unit, threshold) {
    const values = this.values(layer, step, unit);
    const { spans, count } = this.units[unit];
    const counts = { count, known: 0, selected: 0, both: 0, picked: 0, labelled: 0, auroc: NaN };
    counts.answers = this.scored(layer, step).filter(Boolean).length;
    for (let i = 0; i < count; i++) {
      if (Number.isNaN(values[i])) continue;
      const on = this.selects(layer, values[i], threshold);
      counts.known++;
      counts.selected += on;
      if (spans[i] < 0) continue;
      counts.picked += on;
      counts.labelled += spans[i];
      counts.both += on && spans[i] === 1;
    }
    if (counts.labelled) counts.auroc = this.auroc(values, spans, layer.falls);
    return counts;
  }

  /** Probability that a labelled unit scores above another (below, where it is the fall that counts), ties half. */
  auroc(values, spans, falls) {
    const inside = values.filter((v, i) => spans[i] === 1 && !Number.isNaN(v));
    const outside = values.filter((v, i) => spans[i] === 0 && !Number.isNaN(v)).sort();
    let wins = 0;
    for (const v of inside) wins += (bisect(outside, v) + bisect(outside, v, true)) / 2;
    const share = wins / (inside.length * outside.length);
    return falls ? 1 - share : share;
  }

  /** Mean score of each sample, for sorting; null where it has none. */
  sampleMeans(layer, step) {
    const values = this.values(layer, step, "token");
    return this.head.samples.map((sample) => {
      const own = values.subarray(sample.first, sample.first + sample.texts.length).filter((v) => !Number.isNaN(v));
      return own.length ? own.reduce((a, b) => a + b, 0) / own.length : null;
    });
  }

  /** Probability, rank and alternatives of a token before (0) and after (1) a run; null where they are not known. */
  detail(phase, token) {
    if (!this.details) return null;
    const at = (row) => this.details[(phase * 12 + row) * this.count + token];
    if (at(0) === NONE) return null;
    const alternatives = [0, 1, 2, 3, 4].filter((j) => at(2 + j) !== NONE);
    return {
      probability: at(0) / TOP,
      rank: at(1),
      alternatives: alternatives.map((j) => [this.head.vocabulary[at(2 + j)], at(7 + j) / TOP]),
    };
  }
}
