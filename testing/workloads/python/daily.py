"""What Python programs do all day, by the standard library alone: `daily.py PROCESSES` runs until it is killed.

Each of its processes reads and writes JSON, CSV and HTML, searches text, sorts and sums objects, asks a
database, finds ways through a graph, compares versions of a text, and parses, compiles and writes back the
library's own modules; a thread packs what comes of it. Prints a line whenever all of this is done.
"""

import ast
import collections
import csv
import dataclasses
import difflib
import fractions
import heapq
import html.parser
import io
import json
import os
import queue
import random
import re
import sqlite3
import statistics
import string
import sys
import textwrap
import threading
import tokenize
import zlib
from pathlib import Path

MODULES = [Path(os.__file__).parent / name for name in ("argparse.py", "heapq.py", "textwrap.py", "dataclasses.py")]


@dataclasses.dataclass(order=True)
class Order:
    day: int
    customer: str
    items: list = dataclasses.field(default_factory=list, compare=False)

    @property
    def total(self):
        return sum(fractions.Fraction(item["cents"], 100) * item["count"] for item in self.items)


class Cells(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_data(self, data):
        if data.strip():
            self.found.append(data.strip())


class Shorten(ast.NodeTransformer):
    """Leaves the docstrings out."""

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        if ast.get_docstring(node) is not None and len(node.body) > 1:
            node.body = node.body[1:]
        return node


def make_orders(rng, count=300):
    for _ in range(count):
        items = [{"name": rng.choice(string.ascii_lowercase) * 4, "cents": rng.randrange(1, 9999),
                  "count": rng.randrange(1, 9)} for _ in range(rng.randrange(1, 5))]
        yield Order(rng.randrange(366), f"customer{rng.randrange(40)}", items)


def reports(rng):
    orders = [Order(**entry) for entry in
              json.loads(json.dumps([dataclasses.asdict(order) for order in make_orders(rng)], indent=1))]
    totals = collections.defaultdict(list)
    for order in sorted(orders):
        totals[order.customer].append(float(order.total))
    table = io.StringIO()
    writer = csv.writer(table)
    for customer, sums in totals.items():
        writer.writerow([customer, f"{statistics.fmean(sums):.2f}", f"{statistics.stdev(sums + [0]):.2f}"])
    table.seek(0)
    rows = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in csv.reader(table))
    cells = Cells()
    cells.feed(f"<table>{rows}</table>")
    return cells.found


def words(text):
    counts = collections.Counter(re.findall(r"(?<![_\w])[a-z]{3,}(?=[\s.,(])", text))
    marked = re.sub(r"\b(def|class) (\w+)", lambda match: f"{match[1]} <{match[2].upper()}>", text)
    return [*textwrap.wrap(" ".join(word for word, _ in counts.most_common(200))), marked]


def database(rng):
    with sqlite3.connect(":memory:") as connection:
        connection.create_function("initial", 1, lambda name: name[:1].upper())
        connection.execute("create table sales (name text, cents integer)")
        connection.executemany("insert into sales values (?, ?)",
                               ((item["name"], item["cents"]) for order in make_orders(rng) for item in order.items))
        found = connection.execute("select initial(name), sum(cents) from sales group by 1 order by 2").fetchall()
    connection.close()
    return found


def shortest_ways(rng, count=400):
    edges = {node: [(rng.randrange(1, 100), rng.randrange(count)) for _ in range(4)] for node in range(count)}
    distances, waiting = {}, [(0, 0)]
    while waiting:
        distance, node = heapq.heappop(waiting)
        if node not in distances:
            distances[node] = distance
            for step, to in edges[node]:
                heapq.heappush(waiting, (distance + step, to))
    return distances


def rewritten(source, name):
    tree = Shorten().visit(ast.parse(source, name))
    text = ast.unparse(ast.fix_missing_locations(tree))
    compile(text, name, "exec")
    names = {token.string for token in tokenize.generate_tokens(io.StringIO(text).readline)
             if token.type == tokenize.NAME}
    changes = difflib.unified_diff(source.splitlines()[:300], text.splitlines()[:300], lineterm="")
    return [*changes, *sorted(names)]


def pack(waiting):
    packer = zlib.compressobj(6)
    while True:
        packer.compress(repr(waiting.get()).encode())


def work(number):
    rng = random.Random(number)
    waiting = queue.Queue(maxsize=8)
    threading.Thread(target=pack, args=(waiting,), daemon=True).start()
    sources = [path.read_text() for path in MODULES]
    while True:
        for path, source in zip(MODULES, sources):
            waiting.put(reports(rng))
            waiting.put(words(source))
            waiting.put(database(rng))
            waiting.put(shortest_ways(rng))
            waiting.put(rewritten(source, str(path)))
            os.write(sys.stdout.fileno(), b"done\n")


def main():
    for number in range(int(sys.argv[1])):
        if os.fork() == 0:
            work(number)
    os.wait()


if __name__ == "__main__":
    main()
