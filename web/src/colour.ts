// Colours of kinds, for a light and a dark page.
//
// Chosen so that the kinds that meet most often in one profile (kernel, native, rust, go, jvm,
// cpython, v8js) stay apart under normal vision and simulated protan-, deutan- and tritanopia
// (Machado et al. 2009), by hue or, where a hue is lost, by lightness; the others stay apart from
// kernel and native code, which they always meet. test/colour.test.ts measures it. Functions of a
// kind differ by lightness only, so hue always says the kind.

interface Hue {
  hue: number;
  chroma: number;
  /** Lightness of the box, 0–1 (OKLCH), on a light page. */
  light: number;
}

const HUES: Record<string, Hue> = {
  kernel: { hue: 70, chroma: 0.146, light: 0.71 },
  native: { hue: 239, chroma: 0.077, light: 0.86 },
  rust: { hue: 303, chroma: 0.14, light: 0.652 },
  go: { hue: 245, chroma: 0.1, light: 0.752 },
  jvm: { hue: 172, chroma: 0.1, light: 0.65 },
  cpython: { hue: 98, chroma: 0.129, light: 0.93 },
  v8js: { hue: 112, chroma: 0.08, light: 0.8 },
  ruby: { hue: 9, chroma: 0.09, light: 0.8 },
  php: { hue: 280, chroma: 0.11, light: 0.68 },
  perl: { hue: 268, chroma: 0.1, light: 0.66 },
  beam: { hue: 335, chroma: 0.1, light: 0.66 },
  dotnet: { hue: 315, chroma: 0.12, light: 0.66 },
  luajit: { hue: 265, chroma: 0.12, light: 0.7 },
  jit: { hue: 150, chroma: 0.08, light: 0.76 },
  cut: { hue: 30, chroma: 0.035, light: 0.9 },
};
const OTHER: Hue = { hue: 250, chroma: 0.008, light: 0.86 };

/** Lightnesses that functions of a kind take. */
export const SHADES = 4;

const fills = new Map<string, string>();

/** Fill of a shade of a kind, as #rrggbb. */
export function fill(kind: string, shade: number, dark: boolean): string {
  const key = `${kind} ${shade} ${dark}`;
  let known = fills.get(key);
  if (known === undefined) {
    const { hue, chroma, light } = HUES[kind] ?? OTHER;
    // Light text reads well on 0.35–0.53, dark text on 0.63–0.95.
    const lightness = (dark ? 0.35 + (light - 0.63) * (0.15 / 0.3) : light) + (shade - 1) * (dark ? 0.016 : 0.018);
    known = hex(lightness, dark ? chroma * 0.85 : chroma, hue);
    fills.set(key, known);
  }
  return known;
}

/**
 * Fill of a change from −4 (only before) over 0 (noise) to 4 (only after). Blue and orange stay
 * apart under every colour vision; grey is what cannot be told from no change.
 */
export function changeFill(level: number, dark: boolean): string {
  const size = Math.abs(level);
  if (size === 0) return hex(dark ? 0.34 : 0.9, 0.004, 250);
  const hue = level > 0 ? 50 : 245;
  return hex(dark ? 0.38 + 0.035 * size : 0.91 - 0.055 * size, 0.02 + 0.03 * size, hue);
}

/** OKLCH as #rrggbb, clipped to sRGB (Ottosson, "A perceptual color space", 2020). */
function hex(lightness: number, chroma: number, hue: number): string {
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const linear = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ];
  return `#${linear.map((value) => {
    const c = Math.min(1, Math.max(0, value));
    const encoded = c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055;
    return Math.round(255 * encoded).toString(16).padStart(2, "0");
  }).join("")}`;
}

/** The shade of a symbol. */
export function shadeOf(symbol: number): number {
  return (Math.imul(symbol + 1, 0x9e3779b1) >>> 16) % SHADES;
}
