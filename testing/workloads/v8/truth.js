// Says who calls whom, and on which lines, then does it: `node truth.js MILLISECONDS`.
//
// A stack of these functions in which one is called by another that never calls it is wrong. The
// names of two functions are the same only where they are methods that override each other.
'use strict';

function spin(n, salt) {
  let s = salt;
  for (let i = 0; i < n; i++) {
    s = (s * 1103515245 + 12345) & 0x7fffffff;
  }
  return s;
}

function leafA(n) { return spin(n, 1); }
function leafB(n) { return spin(n, 2); }
function tiny(x) { return x + 1; }

function mid1(n) {
  let t = 0;
  for (let i = 0; i < 20; i++) {
    t += leafA(n);
  }
  return t;
}

function mid2(n) {
  let t = 0;
  for (let i = 0; i < 5; i++) {
    t += leafB(n);
    t -= leafA(n);
  }
  return t;
}

// By way of V8's builtins.
function viaSort(n) {
  const sorted = [3, 1, 2, 5, 4].sort(function compare(a, b) {
    spin(n, 3);
    return a - b;
  });
  return sorted[0];
}
function viaReplace(n) { return 'a1b2c3'.replace(/\d/g, function replaced() { return String(leafB(n)); }).length; }
function viaMap(n) { return [1, 2, 3].map(function mapped(x) { return mid1(n) + x; }).length; }
function viaApply(n) {
  return mid2.apply(null, [n]) +
    mid1.call(null, n) +
    Reflect.apply(leafA, null, [n]);
}

function recurse(d, n) { return d === 0 ? leafA(n) : recurse(d - 1, n) + 1; }

class Shape {
  constructor(n) { this.a = spin(n, 4); }
  area(n) { return leafB(n); }
}
class Square extends Shape {
  constructor(n) { super(n); }
  area(n) { return super.area(n) + 1; }
}
function viaClass(n) { return new Square(n).area(n); }

function* generate(n) { for (let i = 0; i < 3; i++) yield leafA(n); }
function viaGenerator(n) { let t = 0; for (const x of generate(n)) t += x; return t; }

function thrower(n) { spin(n, 5); throw new Error('x'); }
function viaTry(n) {
  try {
    thrower(n);
  } catch {
    return leafB(n);
  }
}

function manyTiny(n) {
  let t = 0;
  for (let i = 0; i < n; i++) {
    t = tiny(t);
  }
  return t;
}

function root(n) {
  let t = mid1(n);
  t += mid2(n);
  t += viaSort(n) + viaReplace(n);
  t += viaMap(n);
  t += recurse(50, n);
  t += viaClass(n) + viaGenerator(n);
  t += viaTry(n);
  t += viaApply(n);
  t += manyTiny(n * 10);
  return t;
}

const edges = {
  root: 'mid1 mid2 viaSort viaReplace viaMap recurse viaClass viaGenerator viaTry viaApply manyTiny',
  mid1: 'leafA', mid2: 'leafB leafA', leafA: 'spin', leafB: 'spin',
  viaSort: 'compare', compare: 'spin', viaReplace: 'replaced', replaced: 'leafB',
  viaMap: 'mapped', mapped: 'mid1', viaApply: 'mid2 mid1 leafA',
  recurse: 'recurse leafA', viaClass: 'Square area', Square: 'Shape', Shape: 'spin',
  area: 'area leafB', viaGenerator: 'generate', generate: 'leafA', thrower: 'spin',
  viaTry: 'thrower leafB', manyTiny: 'tiny',
};

// The lines of its definitions on which `caller` mentions `callee`: those of its calls.
const source = require('node:fs').readFileSync(__filename, 'utf8').split('\n');
function lines(caller, callee) {
  const defines = new RegExp(`(function\\*? |class |^  )${caller}\\b.*{`);
  const mentions = new RegExp(callee === 'Shape' ? 'super\\(' : `\\b${callee}\\(|\\b${callee}[.,]`);
  const found = [];
  source.forEach((text, at) => {
    const isMethod = text.startsWith('  ');
    if (!defines.test(text)) return;
    const ends = isMethod && !text.endsWith('}') ? '  }' : '}';
    for (let i = at; ; i++) {
      if (mentions.test(source[i])) found.push(i + 1);
      if (i > at ? source[i].startsWith(ends) : /}(\)\S*;.*)?$/.test(text)) break;
    }
  });
  return found;
}

const truth = {};
for (const [caller, callees] of Object.entries(edges)) {
  for (const callee of callees.split(' ')) truth[`${caller}>${callee}`] = lines(caller, callee);
}
console.log(JSON.stringify(truth));

const end = Date.now() + Number(process.argv[2]);
while (Date.now() < end) root(2000);
