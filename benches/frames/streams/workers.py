"""Identical workers, forked: each goes through the same mix of standard-library work.

`workers.py N` forks N of them, prints `ready`, and runs until it is killed.
"""
import argparse
import ast
import base64
import bisect
import collections
import configparser
import copy
import csv
import datetime
import decimal
import difflib
import dis
import email
import fnmatch
import fractions
import functools
import glob
import gzip
import hashlib
import heapq
import html.parser
import inspect
import io
import ipaddress
import json
import logging
import os
import pickle
import pprint
import random
import re
import shlex
import statistics
import string
import symtable
import sys
import textwrap
import tokenize
import types
import unittest
import urllib.parse
import uuid
import xml.dom.minidom
import xml.etree.ElementTree as ET
import zipfile
LIB = os.path.dirname(os.__file__)
FILES = sorted(glob.glob(LIB + "/*.py"))[:160]

def compile_one(path):
    tree = ast.parse(open(path).read())
    ast.dump(tree)
    ast.unparse(tree)

def tokens(path):
    with open(path, "rb") as f:
        for _ in zip(range(1500), tokenize.tokenize(f.readline)):
            pass

def wrap(path):
    textwrap.fill(open(path).read()[:4000])

def differ(path):
    a = open(path).read().splitlines()[:60]
    b = a[:]
    random.shuffle(b)
    list(difflib.unified_diff(a, b))

def jsons(path):
    data = [{"path": path, "n": i, "text": "x" * i} for i in range(60)]
    copy.deepcopy(json.loads(json.dumps(data, indent=1)))
    pprint.pformat(data)

def mails(path):
    m = email.message_from_string("From: a@b\nTo: c@d\nSubject: =?utf-8?q?x?=\n\n" + open(path).read()[:500])
    m.as_string(); m.get_all("to")

def xmls(path):
    root = ET.Element("r")
    for i in range(40):
        ET.SubElement(root, "e", n=str(i)).text = path
    xml.dom.minidom.parseString(ET.tostring(root)).toprettyxml()

def numbers(path):
    xs = [len(path) + i for i in range(60)]
    statistics.stdev(xs); statistics.median(xs)
    sum(fractions.Fraction(1, x) for x in xs)

def conf(path):
    c = configparser.ConfigParser()
    c.read_string("[a]\nx=1\ny=%(x)s\n[b]\nz=3\n")
    c.get("a", "y"); c.write(io.StringIO())

def args(path):
    p = argparse.ArgumentParser(prog="x")
    for i in range(12):
        p.add_argument("--opt%d" % i, type=int, default=i, help="the option %d" % i)
    p.parse_args(["--opt3", "4"]); p.format_help()

def dates(path):
    for i in range(40):
        datetime.datetime.strptime("2024-01-%02d" % (i % 28 + 1), "%Y-%m-%d").strftime("%A")

def regexes(path):
    re.purge()
    for p in (r"(\w+)\s*=\s*(.*)", r"^def\s+(\w+)\(([^)]*)\)", r"[a-f0-9]{2,8}|x+y*"):
        re.compile(p, re.M).findall(open(path).read()[:3000])

def disassemble(path):
    dis.dis(compile(open(path).read()[:0] + "def f(a, b):\n  return [x for x in a if x > b]\n", path, "exec"), file=io.StringIO())

def addresses(path):
    for i in range(30):
        ipaddress.ip_network("10.%d.0.0/16" % i).subnets()
        urllib.parse.urlsplit("http://host/%s?q=%d" % (path, i)).geturl()
        uuid.uuid5(uuid.NAMESPACE_URL, path)

def logs(path):
    log = logging.getLogger("w"); log.propagate = False
    log.handlers = [logging.StreamHandler(io.StringIO())]
    for i in range(30):
        log.warning("line %d of %s", i, path)

def pickles(path):
    pickle._loads(pickle._dumps([{"a": i, "b": [path] * 3} for i in range(40)]))

def sources(path):
    inspect.getsource(textwrap.TextWrapper); inspect.signature(difflib.unified_diff)

def zips(path):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z:
        z.write(path, "x")
    zipfile.ZipFile(b).read("x")

WORK = [compile_one, tokens, wrap, differ, jsons, mails, xmls, numbers, conf, args, dates, regexes, disassemble, addresses, logs, pickles, sources, zips]

def worker(seed):
    random.seed(seed)
    while True:
        try:
            random.choice(WORK)(random.choice(FILES))
        except Exception:
            pass

for i in range(int(sys.argv[1])):
    if os.fork() == 0:
        worker(i)
print("ready", flush=True)
os.wait()
