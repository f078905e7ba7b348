"""How a page of ``cli/html.py`` looks."""

STYLE = """
:root {
  --page: #ffffff; --ink: #1f2328; --faint: #6e7781; --edge: #d0d7de; --band: #f6f8fa;
  --link: #0550ae; --tip: #1f2328; --tip-ink: #f6f8fa;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0d1117; --ink: #d7dde3; --faint: #8b949e; --edge: #30363d; --band: #161b22;
    --link: #79b8ff; --tip: #e6edf3; --tip-ink: #0d1117;
  }
}
* { box-sizing: border-box }
body {
  display: flex; flex-direction: column; margin: 0; padding: 0 1.5rem 40vh;
  background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; print-color-adjust: exact;
}
h1 { order: -3; margin: 1.2rem 0 .4rem; font-size: 1.35rem; overflow-wrap: anywhere }
nav { order: -1 }
nav p { margin: .5rem 0; color: var(--faint) }
nav ol { margin: .5rem 0; padding-left: 2.2rem }
a { color: var(--link); text-decoration: none; overflow-wrap: anywhere }
a:hover { text-decoration: underline }
nav span { margin-left: .6rem; color: var(--faint); font-size: .87rem }
.legend {
  order: -2; position: sticky; top: 0; z-index: 1; display: flex; flex-wrap: wrap;
  align-items: center; gap: 2px; margin: 0 -1.5rem; padding: .5rem 1.5rem;
  background: var(--page); border-bottom: 1px solid var(--edge);
}
.legend b { margin-right: .6rem; color: var(--faint); font-weight: normal; font-size: .87rem }
.legend span { padding: .05rem .55rem; font: 13px/1.5 ui-monospace, monospace }
section { display: flex; flex-direction: column; scroll-margin-top: 3rem }
h2 { margin: 1.6rem 0 0; font: 600 1rem/1.5 ui-monospace, monospace; overflow-wrap: anywhere }
.facts { order: 1; margin: 0 0 .5rem; color: var(--faint); font-size: .87rem }
.text {
  order: 2; padding: .5rem 0; border: 1px solid var(--edge); border-radius: 6px;
  font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
.text:empty::before { content: "empty"; padding-left: 1rem; color: var(--faint) }
.chunk { content-visibility: auto; contain-intrinsic-height: auto 150em }
.chunk:hover { content-visibility: visible }
.line {
  position: relative; min-height: 1.5em; padding: 0 1rem 0 5.5em;
  white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 8;
}
.line::before {
  content: attr(data-n); position: absolute; left: 0; width: 4.5em; text-align: right;
  color: var(--faint); user-select: none; -webkit-user-select: none;
}
.line:hover { background: var(--band) }
.line i::before { content: "↵"; opacity: .6; font-style: normal }
.line span:hover { outline: 2px solid var(--link) }
[data-tip]:hover::after {
  content: attr(data-tip); position: fixed; right: 1rem; bottom: 1rem; z-index: 2;
  max-width: min(40rem, 90vw); padding: .45rem .7rem; border-radius: 6px;
  background: var(--tip); color: var(--tip-ink); box-shadow: 0 4px 16px #0006;
  font: 13px/1.5 ui-monospace, monospace; text-align: left; pointer-events: none;
  white-space: pre-wrap; overflow-wrap: anywhere; width: max-content;
}
@supports (position-area: end) {
  [data-tip]:hover { anchor-name: --part }
  [data-tip]:hover::after {
    right: auto; bottom: auto; margin: 4px 0; position-anchor: --part;
    position-area: block-end span-inline-end;
    position-try-fallbacks: flip-block, flip-inline, flip-block flip-inline;
  }
}
"""
