"""Golden cases of every layer: its options, odd sizes, one sample, many."""

from torch import nn

from golden import create
from graphs import Residual, graph_case

def rows():
    """Name, Lockstep's layer, PyTorch's module, shape of a sample, batch."""
    return [
        ("linear", "linear out_features=7", nn.Linear(13, 7), [13], 5),
        ("linear_in_features", "linear in_features=13 out_features=7", nn.Linear(13, 7), [13], 1),
        ("linear_no_bias", "linear out_features=17 bias=false", nn.Linear(65, 17, bias=False), [65], 33),
        ("linear_one", "linear out_features=1", nn.Linear(1, 1), [1], 3),
        ("linear_wide", "linear out_features=33", nn.Linear(130, 33), [130], 6),
        ("linear_rows", "linear out_features=5", nn.Linear(9, 5), [3, 9], 4),
        ("linear_image", "linear out_features=6", nn.Linear(7, 6), [2, 5, 7], 3),
        ("batch_norm_1d", "batch_norm", nn.BatchNorm1d(6), [6], 9),
        ("batch_norm_1d_odd", "batch_norm num_features=19 eps=1e-3", nn.BatchNorm1d(19, eps=1e-3), [19], 33),
        ("batch_norm_1d_length", "batch_norm", nn.BatchNorm1d(6), [6, 5], 4),
        ("batch_norm_1d_momentum", "batch_norm momentum=0.3", nn.BatchNorm1d(5, momentum=0.3), [5], 7),
        ("batch_norm_1d_average", "batch_norm momentum=-1", nn.BatchNorm1d(5, momentum=None), [5], 7),
        ("batch_norm_1d_plain", "batch_norm affine=false", nn.BatchNorm1d(5, affine=False), [5], 7),
        ("batch_norm_1d_untracked", "batch_norm track_running_stats=false", nn.BatchNorm1d(5, track_running_stats=False),
         [5], 7),
        ("batch_norm_1d_local", "batch_norm synchronize=false", nn.BatchNorm1d(4), [4], 5),
        ("batch_norm_2d", "batch_norm", nn.BatchNorm2d(3), [3, 5, 7], 4),
        ("batch_norm_2d_odd", "batch_norm eps=1e-4 momentum=0.01", nn.BatchNorm2d(17, eps=1e-4, momentum=0.01),
         [17, 3, 3], 5),
        ("batch_norm_2d_plain", "batch_norm affine=false", nn.BatchNorm2d(4, affine=False), [4, 2, 3], 3),
        ("batch_norm_2d_untracked", "batch_norm track_running_stats=false", nn.BatchNorm2d(4, track_running_stats=False),
         [4, 2, 3], 3),
        ("batch_norm_2d_average", "batch_norm momentum=-1", nn.BatchNorm2d(4, momentum=None), [4, 2, 3], 3),
        ("layer_norm", "layer_norm", nn.LayerNorm(11), [11], 5),
        ("layer_norm_rows", "layer_norm normalized_shape=7", nn.LayerNorm(7), [3, 7], 4),
        ("layer_norm_image", "layer_norm normalized_shape=[3,5]", nn.LayerNorm([3, 5]), [4, 3, 5], 3),
        ("layer_norm_eps", "layer_norm eps=1e-2", nn.LayerNorm(64, eps=1e-2), [64], 9),
        ("layer_norm_plain", "layer_norm elementwise_affine=false", nn.LayerNorm(11, elementwise_affine=False), [11], 5),
        ("layer_norm_no_bias", "layer_norm bias=false", nn.LayerNorm(11, bias=False), [11], 5),
        ("dropout_none", "dropout p=0", nn.Dropout(0), [11], 5),
        ("relu", "relu", nn.ReLU(), [37], 7),
        ("relu_image", "relu", nn.ReLU(), [3, 5, 7], 3),
        ("leaky_relu", "leaky_relu", nn.LeakyReLU(), [37], 7),
        ("leaky_relu_slope", "leaky_relu negative_slope=0.2", nn.LeakyReLU(0.2), [5, 3], 3),
        ("leaky_relu_negative", "leaky_relu negative_slope=-0.5", nn.LeakyReLU(-0.5), [19], 3),
        ("gelu", "gelu", nn.GELU(), [37], 7),
        ("gelu_tanh", "gelu approximate=tanh", nn.GELU(approximate="tanh"), [37], 7),
        ("silu", "silu", nn.SiLU(), [37], 7),
        ("tanh", "tanh", nn.Tanh(), [37], 7),
        ("sigmoid", "sigmoid", nn.Sigmoid(), [37], 7),
        ("softmax", "softmax", nn.Softmax(dim=-1), [9], 5),
        ("softmax_one", "softmax", nn.Softmax(dim=-1), [1], 3),
        ("softmax_channels", "softmax dim=1", nn.Softmax(dim=1), [4, 3, 5], 2),
        ("softmax_middle", "softmax dim=2", nn.Softmax(dim=2), [4, 3, 5], 2),
        ("softmax_last", "softmax dim=-1", nn.Softmax(dim=-1), [4, 17], 3),
        ("flatten", "flatten", nn.Flatten(), [3, 4, 5], 2),
        ("flatten_start", "flatten start_dim=2", nn.Flatten(2), [3, 4, 5], 2),
        ("flatten_end", "flatten start_dim=-3 end_dim=2", nn.Flatten(-3, 2), [3, 4, 5], 2),
    ]


def images():
    return [
        ("conv2d", "conv2d out_channels=5 kernel_size=3", nn.Conv2d(3, 5, 3), [3, 7, 9], 4),
        ("conv2d_in_channels", "conv2d in_channels=1 out_channels=1 kernel_size=1", nn.Conv2d(1, 1, 1), [1, 3, 3], 1),
        ("conv2d_padding", "conv2d out_channels=4 kernel_size=3 padding=1", nn.Conv2d(3, 4, 3, padding=1), [3, 8, 8], 3),
        ("conv2d_stride", "conv2d out_channels=6 kernel_size=3 stride=2 padding=1",
         nn.Conv2d(2, 6, 3, stride=2, padding=1), [2, 7, 10], 3),
        ("conv2d_pairs", "conv2d out_channels=3 kernel_size=[3,5] stride=[2,1] padding=[0,2]",
         nn.Conv2d(4, 3, (3, 5), stride=(2, 1), padding=(0, 2)), [4, 9, 7], 2),
        ("conv2d_dilation", "conv2d out_channels=3 kernel_size=3 dilation=2 padding=2",
         nn.Conv2d(2, 3, 3, dilation=2, padding=2), [2, 9, 8], 2),
        ("conv2d_dilation_pair", "conv2d out_channels=3 kernel_size=[2,3] dilation=[3,2] padding=[1,0] stride=[1,2]",
         nn.Conv2d(2, 3, (2, 3), dilation=(3, 2), padding=(1, 0), stride=(1, 2)), [2, 9, 8], 2),
        ("conv2d_groups", "conv2d out_channels=6 kernel_size=3 groups=2", nn.Conv2d(4, 6, 3, groups=2), [4, 6, 5], 3),
        ("conv2d_depthwise", "conv2d out_channels=10 kernel_size=3 groups=5 padding=1",
         nn.Conv2d(5, 10, 3, groups=5, padding=1), [5, 6, 5], 3),
        ("conv2d_depthwise_stride", "conv2d out_channels=8 kernel_size=3 groups=8 padding=1 stride=2 bias=false",
         nn.Conv2d(8, 8, 3, groups=8, padding=1, stride=2, bias=False), [8, 7, 7], 2),
        ("conv2d_pointwise", "conv2d out_channels=7 kernel_size=1 bias=false", nn.Conv2d(9, 7, 1, bias=False),
         [9, 4, 5], 3),
        ("conv2d_pointwise_stride", "conv2d out_channels=16 kernel_size=1 stride=2", nn.Conv2d(8, 16, 1, stride=2),
         [8, 7, 7], 2),
        ("conv2d_whole", "conv2d out_channels=4 kernel_size=[4,6]", nn.Conv2d(3, 4, (4, 6)), [3, 4, 6], 5),
        ("conv2d_far_padding", "conv2d out_channels=2 kernel_size=2 padding=3", nn.Conv2d(1, 2, 2, padding=3),
         [1, 3, 4], 2),
        ("conv2d_skipping", "conv2d out_channels=2 kernel_size=2 stride=3", nn.Conv2d(3, 2, 2, stride=3), [3, 9, 10], 2),
        ("conv2d_blocks", "conv2d out_channels=32 kernel_size=3 padding=1", nn.Conv2d(16, 32, 3, padding=1),
         [16, 6, 6], 2),
        ("conv2d_same", "conv2d out_channels=4 kernel_size=[3,5] padding=same", nn.Conv2d(3, 4, (3, 5), padding="same"),
         [3, 7, 6], 3),
        ("conv2d_same_dilation", "conv2d out_channels=3 kernel_size=[2,3] dilation=[2,3] padding=same groups=3",
         nn.Conv2d(6, 3, (2, 3), dilation=(2, 3), padding="same", groups=3), [6, 5, 8], 2),
        ("max_pool2d", "max_pool2d kernel_size=2", nn.MaxPool2d(2), [3, 7, 9], 3),
        ("max_pool2d_overlap", "max_pool2d kernel_size=3 stride=2 padding=1", nn.MaxPool2d(3, 2, 1), [5, 8, 7], 3),
        ("max_pool2d_pairs", "max_pool2d kernel_size=[2,3] stride=[1,2] padding=[1,0]",
         nn.MaxPool2d((2, 3), (1, 2), (1, 0)), [2, 6, 7], 2),
        ("max_pool2d_dilation", "max_pool2d kernel_size=2 stride=1 dilation=[2,3]", nn.MaxPool2d(2, 1, dilation=(2, 3)),
         [3, 7, 9], 2),
        ("avg_pool2d", "avg_pool2d kernel_size=2", nn.AvgPool2d(2), [3, 7, 9], 3),
        ("avg_pool2d_padding", "avg_pool2d kernel_size=3 stride=2 padding=1", nn.AvgPool2d(3, 2, 1), [5, 8, 7], 3),
        ("avg_pool2d_exclude", "avg_pool2d kernel_size=3 stride=2 padding=1 count_include_pad=false",
         nn.AvgPool2d(3, 2, 1, count_include_pad=False), [5, 8, 7], 3),
        ("avg_pool2d_pairs", "avg_pool2d kernel_size=[1,4] stride=[2,3] padding=[0,2]",
         nn.AvgPool2d((1, 4), (2, 3), (0, 2)), [2, 5, 8], 2),
        ("max_pool2d_ceil", "max_pool2d kernel_size=3 stride=2 padding=[0,1] ceil_mode=true",
         nn.MaxPool2d(3, 2, (0, 1), ceil_mode=True), [3, 8, 7], 3),
        ("max_pool2d_ceil_dilation", "max_pool2d kernel_size=2 stride=3 dilation=2 ceil_mode=true",
         nn.MaxPool2d(2, 3, dilation=2, ceil_mode=True), [2, 8, 7], 2),
        ("max_pool2d_ceil_larger", "max_pool2d kernel_size=3 stride=2 ceil_mode=true",
         nn.MaxPool2d(3, 2, ceil_mode=True), [2, 2, 4], 2),
        ("avg_pool2d_ceil", "avg_pool2d kernel_size=3 stride=[2,3] padding=1 ceil_mode=true",
         nn.AvgPool2d(3, (2, 3), 1, ceil_mode=True), [3, 8, 6], 3),
        ("avg_pool2d_ceil_exclude", "avg_pool2d kernel_size=2 stride=2 padding=1 ceil_mode=true count_include_pad=false",
         nn.AvgPool2d(2, 2, 1, ceil_mode=True, count_include_pad=False), [2, 5, 6], 2),
        ("adaptive_avg_pool2d", "adaptive_avg_pool2d output_size=[2,3]", nn.AdaptiveAvgPool2d((2, 3)), [3, 7, 8], 3),
        ("adaptive_avg_pool2d_one", "adaptive_avg_pool2d output_size=1", nn.AdaptiveAvgPool2d(1), [5, 7, 8], 3),
        ("adaptive_avg_pool2d_up", "adaptive_avg_pool2d output_size=[5,4]", nn.AdaptiveAvgPool2d((5, 4)), [2, 3, 3], 2),
        ("adaptive_avg_pool2d_same", "adaptive_avg_pool2d output_size=3", nn.AdaptiveAvgPool2d(3), [2, 3, 3], 2),
    ]


def fused(file):
    """Operations that take a following relu in, and those that must not."""
    graph_case(file, "linear_relu", "linear out_features=9\nrelu", nn.Sequential(nn.Linear(6, 9), nn.ReLU()), [6], 7)
    graph_case(file, "linear_rows_relu", "linear out_features=9\nrelu", nn.Sequential(nn.Linear(6, 9), nn.ReLU()),
               [3, 6], 7)
    graph_case(file, "conv2d_relu", "conv2d out_channels=4 kernel_size=3 padding=1\nrelu",
               nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()), [3, 5, 6], 3)
    graph_case(file, "conv2d_groups_relu", "conv2d out_channels=4 kernel_size=3 groups=2\nrelu",
               nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU()), [2, 5, 6], 3)
    graph_case(file, "batch_norm_1d_relu", "batch_norm\nrelu", nn.Sequential(nn.BatchNorm1d(5), nn.ReLU()), [5], 9)
    graph_case(file, "batch_norm_1d_length_relu", "batch_norm\nrelu", nn.Sequential(nn.BatchNorm1d(5), nn.ReLU()),
               [5, 3], 4)
    graph_case(file, "batch_norm_2d_relu", "batch_norm\nrelu", nn.Sequential(nn.BatchNorm2d(5), nn.ReLU()),
               [5, 4, 3], 4)
    graph_case(file, "batch_norm_2d_plain_relu", "batch_norm affine=false\nrelu",
               nn.Sequential(nn.BatchNorm2d(5, affine=False), nn.ReLU()), [5, 4, 3], 4)
    graph_case(file, "linear_relu_relu", "linear out_features=9\nrelu\nrelu",
               nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.ReLU()), [6], 7)
    graph_case(file, "linear_gelu", "linear out_features=9\ngelu", nn.Sequential(nn.Linear(6, 9), nn.GELU()), [6], 7)


def containers(file):
    def conv(i, o, k=3):
        return nn.Conv2d(i, o, k, padding=k // 2)

    graph_case(file, "residual", """
        residual {
            conv2d out_channels=3 kernel_size=3 padding=1
            relu
            conv2d out_channels=3 kernel_size=3 padding=1
        }
        relu""", nn.Sequential(Residual(nn.Sequential(conv(3, 3), nn.ReLU(), conv(3, 3))), nn.ReLU()), [3, 5, 6], 3)
    graph_case(file, "residual_shortcut", """
        residual {
            conv2d out_channels=5 kernel_size=3 padding=1
        } shortcut {
            conv2d out_channels=5 kernel_size=1
        }""", nn.Sequential(Residual(nn.Sequential(conv(3, 5)), nn.Sequential(conv(3, 5, 1)))), [3, 5, 6], 3)
    graph_case(file, "residual_linear", """
        linear out_features=8
        residual {
            linear out_features=12
            gelu
            linear out_features=8
        }
        linear out_features=3""", nn.Sequential(
            nn.Linear(5, 8), Residual(nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))),
            nn.Linear(8, 3)), [5], 7)
    graph_case(file, "residual_nested", """
        residual {
            linear out_features=6
            residual {
                tanh
                linear out_features=6
            } shortcut {
                linear out_features=6 bias=false
                relu
            }
            relu
        }
        residual {
            relu
        }""", nn.Sequential(
            Residual(nn.Sequential(
                nn.Linear(6, 6),
                Residual(nn.Sequential(nn.Tanh(), nn.Linear(6, 6)),
                         nn.Sequential(nn.Linear(6, 6, bias=False), nn.ReLU())), nn.ReLU())),
            Residual(nn.Sequential(nn.ReLU()))), [6], 5)
    graph_case(file, "residual_layouts", """
        residual {
            conv2d out_channels=3 kernel_size=3 padding=1
        } shortcut {
            layer_norm
            softmax
        }""", nn.Sequential(Residual(nn.Sequential(conv(3, 3)), nn.Sequential(nn.LayerNorm(6), nn.Softmax(-1)))),
               [3, 5, 6], 2)
    graph_case(file, "residual_empty", "linear out_features=4\nresidual {\n}",
               nn.Sequential(nn.Linear(6, 4), Residual(nn.Sequential())), [6], 5)
    graph_case(file, "sequential", """
        sequential {
            linear out_features=4
            sequential {
                tanh
                linear out_features=3
            }
        }
        relu""", nn.Sequential(
            nn.Sequential(nn.Linear(6, 4), nn.Sequential(nn.Tanh(), nn.Linear(4, 3))), nn.ReLU()), [6], 5)


def main():
    with create("layers.h5", seed=20) as file:
        for name, layer, module, shape, batch in rows() + images():
            # Running statistics are updated by each of several batches.
            forwards = 3 if name.startswith("batch_norm") else 1
            graph_case(file, name, layer, nn.Sequential(module), shape, batch, forwards=forwards)
        fused(file)
        containers(file)
        graph_case(file, "dropout_evaluation", "linear out_features=5\nrelu\ndropout p=0.4\nlinear out_features=3",
                   nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Dropout(0.4), nn.Linear(5, 3)), [7], 6, train=False)


if __name__ == "__main__":
    main()
