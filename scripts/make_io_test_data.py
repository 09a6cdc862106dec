#!/usr/bin/python3
"""Writes the small files of tests/data/io with numpy and PyTorch, so that the readers are tested on genuine ones."""
import collections
import os

import numpy as np
import torch

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "io")
os.makedirs(out, exist_ok=True)
path = lambda name: os.path.join(out, name)
images = np.arange(4 * 3 * 2 * 2, dtype=np.uint8).reshape(4, 3, 2, 2)
labels = np.array([3, 1, 2, 0], dtype=np.int64)

np.save(path("float.npy"), np.arange(6, dtype=np.float32).reshape(2, 3) / 4)
np.save(path("fortran.npy"), np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)))
np.save(path("big_endian.npy"), np.arange(3, dtype=">f4"))
np.savez(path("stored.npz"), images=images, labels=labels)
np.savez_compressed(path("deflated.npz"), images=images, labels=labels)

torch.save(torch.from_numpy(images), path("tensor.pt"))
torch.save({"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}, path("dict.pt"))
torch.save((torch.from_numpy(images), torch.from_numpy(labels)), path("tuple.pt"))
torch.save([torch.from_numpy(images[i : i + 1]) for i in range(4)], path("list.pt"))
torch.save(torch.from_numpy(images), path("legacy.pt"), _use_new_zipfile_serialization=False)

# What Python writes in a way that LibTorch's reader does not know: containers with one entry, ordered dictionaries.
single = os.path.join(out, "single")
os.makedirs(single, exist_ok=True)
tensor = torch.from_numpy(images)
one = {
    "dict": {"images": tensor},
    "list": [tensor],
    "tuple": (tensor,),
    "nested": {"outer": [tensor]},
    "list_of_dicts": [{"images": tensor[i : i + 1]} for i in range(4)],
    "list_of_one_dict": [{"images": tensor}],
    "dict_of_dict": {"outer": {"inner": {"images": tensor}}},
    "tuple_of_lists": ([tensor], [torch.from_numpy(labels)]),
    "ordered": collections.OrderedDict(images=tensor),
    "ordered_two": collections.OrderedDict(a=tensor, b=torch.from_numpy(labels)),
    "ordered_nested": {"x": collections.OrderedDict(images=tensor)},
    "shared": {"pair": [(tensor, tensor)]},
    "int_key": {7: tensor},
    "bool": {"x": torch.tensor([True, False])},
    "int": {"x": torch.tensor([3, 4])},
    "float": {"x": torch.tensor([0.5, -2.0])},
    "numbers": {"x": [torch.tensor([1.0]), torch.tensor([2.0])], "rate": [0.5], "steps": [123456789012], "on": [True]},
}
for name, value in one.items():
    torch.save(value, os.path.join(single, name + ".pt"))
