// The numbers of a token view: every scorer at every step, as 16-bit codes (0 its smallest score, TOP its largest).

const TOP = 65534;
const NONE = 65535;

const words16 = (view) => new Uint16Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

class Scores {
  constructor(head, values, details) {
    this.head = head;
    this.count = head.spans.length;
    this.values = words16(values);
    this.details = details.byteLength ? words16(details) : null;
    this.layers = head.layers;
    this.middle = (head.palette.length - 1) / 2; // the step of the palette that has no colour
    let row = 0;
    for (const layer of this.layers) {
      layer.row = row;
      row += layer.steps.length;
    }
    this.steps = [...new Set(this.layers.flatMap((layer) => layer.steps))].sort((a, b) => a - b);
    this.spans = Int8Array.from(head.spans, (c) => (c === "-" ? -1 : Number(c)));
    this.units = { token: this.byToken(), word: this.byWord() };
    this.cache = new Map();
  }

  layer(name) {
    return this.layers.find((layer) => layer.name === name) ?? this.layers[0];
  }

  /** The newest step that a scorer has up to `step`; its first where it has none so early. */
  stepOf(layer, step) {
    let found = layer.steps[0];
    for (const each of layer.steps) if (each <= step) found = each;
    return found;
  }

  codesOf(layer, step) {
    const row = layer.row + layer.steps.indexOf(this.stepOf(layer, step));
    return this.values.subarray(row * this.count, (row + 1) * this.count);
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

  /** A code a unit: tokens as they are, words as the mean of their tokens. */
  codes(layer, step, unit) {
    const codes = this.codesOf(layer, step);
    if (unit === "token") return codes;
    const key = `${layer.name}\n${this.stepOf(layer, step)}`;
    if (!this.cache.has(key)) this.cache.set(key, this.means(codes));
    return this.cache.get(key);
  }

  means(codes) {
    const { of, count } = this.units.word;
    const sums = new Float64Array(count);
    const sizes = new Uint32Array(count);
    for (let i = 0; i < this.count; i++) {
      if (codes[i] !== NONE) {
        sums[of[i]] += codes[i];
        sizes[of[i]]++;
      }
    }
    return Uint16Array.from(sums, (sum, i) => (sizes[i] ? Math.round(sum / sizes[i]) : NONE));
  }

  value(layer, code) {
    const [low, high] = layer.range;
    return code === NONE ? NaN : low + (code / TOP) * (high - low);
  }

  code(layer, value) {
    const [low, high] = layer.range;
    return Math.round(((value - low) / (high - low || 1)) * TOP);
  }

  /** Strength of colour, 0..1, or -1..1 where two hues are used. */
  place(layer, value) {
    const { low, high, quantiles } = layer.scale;
    if (quantiles.length) {
      let left = quantiles.findIndex((q) => q >= value);
      let right = quantiles.findIndex((q) => q > value);
      left = left < 0 ? quantiles.length : left;
      right = right < 0 ? quantiles.length : right;
      return Math.min(1, Math.max(0, (left + right) / 200));
    }
    return low < 0 ? value / high : (value - low) / (high - low || 1);
  }

  /** The score at a place of the scale: where the threshold's slider stands. */
  at(layer, place) {
    const { low, high, quantiles } = layer.scale;
    if (quantiles.length) return quantiles[Math.round(place * (quantiles.length - 1))];
    return low < 0 ? place * high : low + place * (high - low);
  }

  /** A colour step for each of the 65536 codes, so that painting is looking up. */
  levels(layer) {
    if (!layer.levels) {
      layer.levels = new Uint8Array(65536).fill(this.middle);
      if (layer.scale && !layer.scale.flat) {
        for (let code = 0; code <= TOP; code++) {
          layer.levels[code] = this.middle + Math.round(this.middle * this.place(layer, this.value(layer, code)));
        }
      }
    }
    return layer.levels;
  }

  /** Whether a threshold selects a code: at or above it, or at or below it where it is the fall that counts. */
  selects(layer, code, cut) {
    return cut !== NONE && code !== NONE && (layer.falls ? code <= cut : code >= cut);
  }

  cut(layer, threshold) {
    return threshold === null ? NONE : this.code(layer, threshold);
  }

  /** What a threshold selects, and how well that matches the labelled spans. */
  matches(layer, step, unit, threshold) {
    const codes = this.codes(layer, step, unit);
    const { spans, count } = this.units[unit];
    const cut = this.cut(layer, threshold);
    const found = { count, known: 0, selected: 0, both: 0, picked: 0, labelled: 0 };
    for (let i = 0; i < count; i++) {
      if (codes[i] === NONE) continue;
      found.known++;
      const on = this.selects(layer, codes[i], cut);
      found.selected += on;
      if (spans[i] < 0) continue;
      found.picked += on;
      found.labelled += spans[i];
      found.both += on && spans[i] === 1;
    }
    return found;
  }

  /** Probability that a labelled unit scores above another (below, where it is the fall that counts), ties half; NaN where one of the two kinds is missing. */
  auroc(layer, step, unit) {
    const codes = this.codes(layer, step, unit);
    const { spans, count } = this.units[unit];
    const inside = new Uint32Array(65536);
    const outside = new Uint32Array(65536);
    for (let i = 0; i < count; i++) if (codes[i] !== NONE && spans[i] >= 0) (spans[i] ? inside : outside)[codes[i]]++;
    let below = 0;
    let wins = 0;
    let labelled = 0;
    for (let code = 0; code <= TOP; code++) {
      wins += inside[code] * (below + outside[code] / 2);
      below += outside[code];
      labelled += inside[code];
    }
    const share = wins / (labelled * below);
    return layer.falls ? 1 - share : share;
  }

  /** Mean score of each sample, for sorting. */
  sampleMeans(layer, step) {
    const codes = this.codesOf(layer, step);
    return this.head.samples.map((sample) => {
      const own = codes.subarray(sample.first, sample.first + sample.texts.length).filter((code) => code !== NONE);
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
