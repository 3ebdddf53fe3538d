"""Golden cases of small whole networks, as people build them."""

import torch
from torch import nn

from golden import create
from graphs import Residual, graph_case


def renamed(module, names):
    """The same layers, some of them under a name instead of their index."""
    out = nn.Sequential()
    for i, layer in enumerate(module):
        out.add_module(names.get(i, str(i)), layer)
    return out


def classify(file, name, layers, module, shape, batch, count):
    graph_case(file, name, layers, module, shape, batch, "cross_entropy", "", nn.CrossEntropyLoss(reduction="sum"),
               targets=torch.randint(count, (batch,)))


def digits(file):
    classify(file, "digits", """
        conv1:conv2d out_channels=16 kernel_size=3 padding=1
        relu
        conv2:conv2d out_channels=32 kernel_size=3 padding=1
        relu
        max_pool2d kernel_size=2
        flatten
        fc1:linear out_features=64
        relu
        fc2:linear out_features=10
        """, renamed(nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1),
                                   nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(),
                                   nn.Linear(64, 10)), {0: "conv1", 2: "conv2", 6: "fc1", 8: "fc2"}),
             [1, 8, 8], 6, 10)


def cnn(file):
    def part(i, o):
        return [nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]

    classify(file, "cnn", """
        conv2d out_channels=8 kernel_size=3 padding=1 bias=false
        batch_norm
        relu
        max_pool2d kernel_size=2
        conv2d out_channels=12 kernel_size=3 padding=1 bias=false
        batch_norm
        relu
        avg_pool2d kernel_size=2
        flatten
        linear out_features=20
        relu
        linear out_features=5
        """, nn.Sequential(*part(3, 8), nn.MaxPool2d(2), *part(8, 12), nn.AvgPool2d(2), nn.Flatten(),
                           nn.Linear(48, 20), nn.ReLU(), nn.Linear(20, 5)), [3, 9, 11], 5, 5)


def mlp(file):
    graph_case(file, "mlp", """
        flatten
        linear out_features=33
        layer_norm
        gelu approximate=tanh
        linear out_features=17 bias=false
        batch_norm
        silu
        linear out_features=3
        """, nn.Sequential(nn.Flatten(), nn.Linear(15, 33), nn.LayerNorm(33), nn.GELU(approximate="tanh"),
                           nn.Linear(33, 17, bias=False), nn.BatchNorm1d(17), nn.SiLU(), nn.Linear(17, 3)), [3, 5], 11,
               "huber", "", nn.HuberLoss(reduction="sum"))


def resnet(file):
    def block(i, o, stride):
        inner = nn.Sequential(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(),
                              nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o))
        if stride == 1:
            return Residual(inner)
        return Residual(inner, renamed(
            nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)), {0: "conv", 1: "norm"}))

    text = """
            conv2d out_channels={1} kernel_size=3 stride={0} padding=1 bias=false
            batch_norm
            relu
            conv2d out_channels={1} kernel_size=3 padding=1 bias=false
            batch_norm"""
    classify(file, "resnet", """
        stem:conv2d out_channels=6 kernel_size=3 padding=1 bias=false
        batch_norm
        relu
        res1:residual {""" + text.format(1, 6) + """
        }
        relu
        res2:residual {""" + text.format(2, 10) + """
        } shortcut {
            conv:conv2d out_channels=10 kernel_size=1 stride=2 bias=false
            norm:batch_norm
        }
        relu
        adaptive_avg_pool2d output_size=1
        flatten
        head:linear out_features=7
        """, renamed(nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
                                   block(6, 6, 1), nn.ReLU(), block(6, 10, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
                                   nn.Flatten(), nn.Linear(10, 7)), {0: "stem", 3: "res1", 5: "res2", 9: "head"}),
             [3, 7, 7], 4, 7)


def main():
    with create("networks.h5", seed=22) as file:
        digits(file)
        cnn(file)
        mlp(file)
        resnet(file)


if __name__ == "__main__":
    main()
