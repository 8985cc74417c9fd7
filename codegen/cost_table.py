"""The coefficients of cost.py, fitted to measurements in the emulator.

`python bench/fit_costs.py` measures them and writes this file: cores -> kernel -> what is
estimated -> quantity of the layer -> what each unit of it adds.
"""

from collections.abc import Mapping

TABLE: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]] = {
    "dsp": {
        "conv2d_c": {
            "instructions": {"outputs": 30.41, "macs": 2.646, "odd macs": 0.04843, "window rows": 1.304, "gathered": 0.9432, "border taps": 7.554, "odd gathered": 0.1355},
            "code_bytes": {"call": 548.2, "padded": 166.7, "windows": 483.6},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "conv2d_dsp": {
            "instructions": {"pixels": 31.76, "packed": 1.28, "odd packed": 1.426, "sought pixels": 13.72, "border taps": 3.261, "pairs quads": 57.98, "pairs quads taps": 27.63},
            "code_bytes": {"call": 906.6, "padded": 190.1, "windows": 219, "rest": 39.12},
            "constant_bytes": {"call": 12.2, "channels": 4.002, "quads": 31.64, "weights": 0.006976, "quads taps": 1.008},
        },
        "conv2d_winograd": {
            "instructions": {"tiles": 204.8, "tiles inputs": 105.2, "tiles quads": 843.7, "tiles products": 19.33, "border bytes": 1.212},
            "code_bytes": {"call": 2888, "padded": 465.2},
            "constant_bytes": {"channels": 16, "weights": 3.556},
        },
        "depthwise_conv2d_c": {
            "instructions": {"outputs": 19.4, "output window rows": 1.196, "macs": 3.403, "padded outputs": 4.403, "padded window rows": 1.661, "border taps": 7.086},
            "code_bytes": {"call": 465.1, "padded": 705.8, "windows": 30.71},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "depthwise_taps_dsp": {
            "instructions": {"call": 0.2902, "pixels": 15.98, "pixels quads": 29.16, "pixels quads taps": 8.711, "pixels quads window rows": 1.648, "padded pixels": 7.903, "border taps": 4.517, "border bytes": 0.3346},
            "code_bytes": {"call": 328, "padded": 216.1, "windows": 222.5},
            "constant_bytes": {"call": 0.7454, "channels": 11.92, "weights": 2.07, "taps": 0.01028},
        },
        "depthwise_window_dsp": {
            "instructions": {"call": 183, "quads pairs of rows": 78.62, "moved quads pairs of rows columns": 23.24, "quads pairs of rows outputs": 161.1, "border": 22.78},
            "code_bytes": {"call": 534, "padded": 179.9},
            "constant_bytes": {"call": 15.23, "channels": 36.03},
        },
        "fully_connected_c": {
            "instructions": {"outputs": 30.1, "macs": 2.667},
            "code_bytes": {"call": 555.4},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "fully_connected_dsp": {
            "instructions": {"call": 19.05, "quads": 40.22, "quads taps": 1.055, "rest": 17.67},
            "code_bytes": {"call": 516.9, "rest": 15.88},
            "constant_bytes": {"call": 14.78, "twos": 14.22, "quads": 19.57, "weights": 0.01916, "quads taps": 0.9967},
        },
        "fully_connected_rows_dsp": {
            "instructions": {"packed": 2.169, "odd packed": 3.715, "pairs rest": 11.88, "pairs quads": 75.46, "pairs quads taps": 26.99},
            "code_bytes": {"call": 895.5, "rest": 60.66},
            "constant_bytes": {"channels": 3.926, "quads": 44.34, "quads taps": 1.007, "taps": 0.03503},
        },
    },
    "m3": {
        "conv2d_c": {
            "instructions": {"outputs": 30.41, "macs": 2.647, "odd macs": 0.04749, "window rows": 0.9608, "gathered": 0.9281, "border taps": 7.709, "odd gathered": 0.1526},
            "code_bytes": {"call": 548.2, "padded": 166.7, "windows": 483.6},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "conv2d_eights_m3": {
            "instructions": {"pixels": 20, "gathered": 0.6, "border taps": 7, "odd gathered": 0.5, "pixels octads": 55, "pixels octads taps": 8, "pixels octads groups": 14},
            "code_bytes": {"call": 500, "padded": 250, "windows": 250, "rest": 100},
            "constant_bytes": {"octads": 128, "octads taps": 2.5},
        },
        "conv2d_pairs": {
            "instructions": {"pixels": 23.65, "packed": 3.96, "sought pixels": 12.52, "window rows": 5.141, "gathered": 0.02494, "border taps": 1.985, "border bytes": 1.787, "fours twos": 32.86, "fours twos taps": 5.9, "fours twos groups": 26.9},
            "code_bytes": {"call": 817.3, "padded": 954.5, "windows": 661.3, "rest": 0.6857},
            "constant_bytes": {"call": 1.527, "channels": 0.01232, "twos": 40.57, "weights": 0.03453, "twos taps": 0.9591, "quads taps": 0.00669, "taps": 2.018},
        },
        "depthwise_conv2d_c": {
            "instructions": {"outputs": 19.36, "output window rows": 1.257, "macs": 3.387, "padded outputs": 7.103, "padded window rows": 0.8334, "border taps": 7.107},
            "code_bytes": {"call": 465.1, "padded": 704.2, "windows": 28.93},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "depthwise_line_m3": {
            "instructions": {"rows": 35.69, "channels": 37.51, "channels rows": 17.18, "moved channels rows": 36.18, "moved channels rows columns": 2.37, "outputs": 31.97},
            "code_bytes": {"call": 515.5, "padded": 96.15, "odd": 83.65},
            "constant_bytes": {"channels": 25},
        },
        "fully_connected_c": {
            "instructions": {"outputs": 30.1, "macs": 2.667},
            "code_bytes": {"call": 555.4},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "fully_connected_fours_m3": {
            "instructions": {"pixels quads taps": 9.689, "outputs": 13.77, "rest outputs": 3.224},
            "code_bytes": {"call": 411.9},
            "constant_bytes": {"call": 0.4503, "quads": 62.88, "weights": 0.001153, "twos taps": 0.01921, "quads taps": 0.9822, "taps": 0.02716},
        },
    },
    "m0": {
        "conv2d_c": {
            "instructions": {"outputs": 74.24, "macs": 6.313, "odd macs": 0.4091, "window rows": 7.303, "gathered": 0.04925, "border taps": 7.511, "odd gathered": 1.781},
            "code_bytes": {"call": 592, "windows": 794},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "conv2d_eights_m0": {
            "instructions": {"pixels": 40, "gathered": 1, "border taps": 10, "odd gathered": 2, "pixels octads": 190, "pixels octads taps": 11, "pixels octads groups": 25},
            "code_bytes": {"call": 650, "padded": 250, "windows": 250, "rest": 100},
            "constant_bytes": {"octads": 160, "octads taps": 2.5},
        },
        "conv2d_octets": {
            "instructions": {"pixels": 21.1, "packed": 5.291, "sought pixels": 32.95, "gathered": 1.221, "border taps": 2.362, "border bytes": 2.975, "eights channels": 241.1, "eights channels taps": 15.12, "eights channels groups": 7.705},
            "code_bytes": {"call": 995, "padded": 592, "windows": 511.8, "rest": 51.3},
            "constant_bytes": {"call": 0.5526, "channels": 25.69, "weights": 1.008, "quads taps": 0.01342, "taps": 1.951},
        },
        "depthwise_conv2d_c": {
            "instructions": {"outputs": 59.91, "macs": 7.565, "padded outputs": 5.535, "padded window rows": 1.895, "border taps": 5.864},
            "code_bytes": {"call": 387.1, "padded": 638.7, "windows": 77.95},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "depthwise_line_m0": {
            "instructions": {"rows": 54.85, "channels": 67.71, "channels rows": 19.46, "moved channels rows": 16.61, "moved channels rows columns": 5.36, "outputs": 66.35},
            "code_bytes": {"call": 481, "padded": 189, "odd": 150.8},
            "constant_bytes": {"channels": 33.27},
        },
        "fully_connected_c": {
            "instructions": {"outputs": 74.71, "macs": 6.33},
            "code_bytes": {"call": 697.3},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "fully_connected_fours_m0": {
            "instructions": {"pixels quads taps": 15.4, "outputs": 36.07, "odd outputs": 0.02367, "rest outputs": 3.729},
            "code_bytes": {"call": 480.7, "odd": 8.493},
            "constant_bytes": {"quads": 96.56, "weights": 0.004301, "quads taps": 0.9971, "taps": 0.05967},
        },
    },
}  # fmt: skip
