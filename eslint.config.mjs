/** What the linter of web/ and tests/js checks; it is run by scripts/test.py. Rules of ESLint only. */

const names = (text) => Object.fromEntries(text.trim().split(/\s+/).map((n) => [n, "readonly"]));

const EVERYWHERE = names(`
  AbortController Blob CompressionStream CustomEvent DecompressionStream Event EventTarget File
  FormData Response URL URLSearchParams clearTimeout clearInterval console crypto fetch performance
  setTimeout setInterval structuredClone
`);
const PAGES = names(`
  Element HTMLElement HTMLInputElement Node Image ImageData OffscreenCanvas ResizeObserver Worker
  cancelAnimationFrame createImageBitmap document localStorage requestAnimationFrame window
`);
const NODE = names("Buffer process");

const RULES = {
  // Mistakes.
  "array-callback-return": "error",
  "constructor-super": "error",
  "for-direction": "error",
  "getter-return": "error",
  "no-async-promise-executor": "error",
  "no-class-assign": "error",
  "no-compare-neg-zero": "error",
  "no-cond-assign": "error",
  "no-const-assign": "error",
  "no-constant-binary-expression": "error",
  "no-constant-condition": "error",
  "no-constructor-return": "error",
  "no-control-regex": "error",
  "no-debugger": "error",
  "no-dupe-class-members": "error",
  "no-dupe-else-if": "error",
  "no-dupe-keys": "error",
  "no-duplicate-case": "error",
  "no-duplicate-imports": "error",
  "no-empty": "error",
  "no-empty-pattern": "error",
  "no-ex-assign": "error",
  "no-fallthrough": "error",
  "no-func-assign": "error",
  "no-global-assign": "error",
  "no-import-assign": "error",
  "no-invalid-regexp": "error",
  "no-irregular-whitespace": "error",
  "no-loss-of-precision": "error",
  "no-misleading-character-class": "error",
  "no-new-native-nonconstructor": "error",
  "no-obj-calls": "error",
  "no-prototype-builtins": "error",
  "no-redeclare": "error",
  "no-self-assign": "error",
  "no-self-compare": "error",
  "no-setter-return": "error",
  "no-shadow": "error",
  "no-shadow-restricted-names": "error",
  "no-sparse-arrays": "error",
  "no-this-before-super": "error",
  "no-throw-literal": "error",
  "no-undef": "error",
  "no-unmodified-loop-condition": "error",
  "no-unreachable": "error",
  "no-unsafe-finally": "error",
  "no-unsafe-negation": "error",
  "no-unsafe-optional-chaining": "error",
  "no-unused-labels": "error",
  "no-unused-private-class-members": "error",
  "no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
  "no-use-before-define": ["error", { functions: false, classes: false, variables: false }],
  "no-useless-backreference": "error",
  "no-useless-catch": "error",
  "no-useless-escape": "error",
  "no-with": "error",
  "require-yield": "error",
  "use-isnan": "error",
  "valid-typeof": "error",
  // Ways to run text as code, and leftovers.
  "no-alert": "error",
  "no-console": "error",
  "no-eval": "error",
  "no-implied-eval": "error",
  "no-new-func": "error",
  "no-restricted-properties": [
    "error",
    ...["innerHTML", "outerHTML", "insertAdjacentHTML"].map((property) => (
      { property, message: "Text goes in as textContent." }
    )),
    { object: "document", property: "write" },
    ...["randomUUID", "subtle"].map((property) => (
      { object: "crypto", property, message: "Only there on https and localhost; see identity.mjs." }
    )),
  ],
  "no-script-url": "error",
  // One way to write things.
  curly: ["error", "multi-line"],
  eqeqeq: ["error", "always", { null: "ignore" }],
  "max-lines": ["error", 450],
  "no-else-return": "error",
  "no-implicit-globals": "error",
  "no-lonely-if": "error",
  "no-unneeded-ternary": "error",
  "no-useless-computed-key": "error",
  "no-useless-concat": "error",
  "no-useless-rename": "error",
  "no-useless-return": "error",
  "no-var": "error",
  "object-shorthand": "error",
  "prefer-const": "error",
  "prefer-object-spread": "error",
  "prefer-rest-params": "error",
  "prefer-spread": "error",
};

export default [
  {
    files: ["web/**/*.{js,mjs}", "tests/js/**/*.mjs", "eslint.config.mjs"],
    languageOptions: { ecmaVersion: 2022, sourceType: "module", globals: EVERYWHERE },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: RULES,
  },
  { files: ["web/**"], languageOptions: { globals: PAGES } },
  { files: ["web/paint/map_worker.mjs"], languageOptions: { globals: names("self") } },
  { files: ["tests/js/**"], languageOptions: { globals: NODE } },
];
