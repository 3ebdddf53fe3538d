#!/usr/bin/env python3
"""Writes examples/digits/digits.h5 from the UCI digits as comma-separated lines.

    digits_h5.py digits.csv.gz examples/digits/digits.h5

Each line of the input holds 64 pixels in 0..16, row by row, and the label. Of every class, every
fifth sample (the third, the eighth, ...) goes to the validation set; the order is kept. The file
has HDF5's oldest format and no time stamps, so that it is the same bytes every time and every HDF5
since 1.8 reads it.
"""
import csv
import gzip
import sys

import h5py
import numpy as np

FIRST_HELD_OUT, EVERY = 2, 5

ATTRIBUTES = {
    "title": "Optical Recognition of Handwritten Digits",
    "authors": "E. Alpaydin, C. Kaynak (1998)",
    "source": "UCI Machine Learning Repository, "
    "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
    "license": "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/",
    "changes": "the test set of the original, split into a training and a validation set",
}


def read_lines(path):
    with gzip.open(path, "rt", newline="") as stream:
        lines = np.array([[int(number) for number in line] for line in csv.reader(stream)])
    assert lines.shape == (1797, 65) and lines.min() == 0
    assert lines[:, :64].max() == 16 and lines[:, 64].max() == 9
    return lines.astype(np.uint8)


def held_out(labels):
    """True for the samples of the validation set."""
    mask = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        mask[np.flatnonzero(labels == label)[FIRST_HELD_OUT::EVERY]] = True
    return mask


def main(source, target):
    lines = read_lines(source)
    pixels, labels = lines[:, :64].reshape(-1, 1, 8, 8), lines[:, 64]
    mask = held_out(labels)
    with h5py.File(target, "w", libver="earliest") as file:
        for name, text in ATTRIBUTES.items():
            file.attrs[name] = text
        for part, chosen in (("train", ~mask), ("validation", mask)):
            group = file.create_group(part)
            group.create_dataset("inputs", data=pixels[chosen], track_times=False)
            group.create_dataset("targets", data=labels[chosen], track_times=False)
        print({part: file[part]["inputs"].shape for part in file})


if __name__ == "__main__":
    main(*sys.argv[1:])
