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
        "add_saturated_dsp": {
            "instructions": {"call": 14.15, "outputs": 6.269, "first outputs": 0.7059},
            "code_bytes": {"call": 514.9},
            "constant_bytes": {},
        },
        "add_weighted": {
            "instructions": {"call": 10.26, "limited": 1.487, "outputs": 6.966, "limited outputs": 3.554},
            "code_bytes": {"call": 202},
            "constant_bytes": {},
        },
    },
    "m3": {
        "conv2d_c": {
            "instructions": {"outputs": 30.02, "macs": 2.661, "odd macs": 0.0623, "window rows": 1.482, "gathered": 0.9698, "border taps": 6.063, "odd gathered": 0.06655},
            "code_bytes": {"call": 449, "padded": 124, "windows": 671.3},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "conv2d_eights_m3": {
            "instructions": {"pixels": 1.321, "sought pixels": 55.66, "border taps": 0.03659, "border bytes": 0.5577, "pixels octads": 64.31, "pixels octads taps": 5.601, "pixels octads groups": 19.79},
            "code_bytes": {"call": 441, "padded": 667},
            "constant_bytes": {"twos": 0.4681, "octads": 126.7, "weights": 0.05384, "octads taps": 2.498},
        },
        "conv2d_pairs": {
            "instructions": {"pixels": 37.2, "packed": 1.97, "sought pixels": 55.14, "window rows": 47.76, "border taps": 16.88, "fours twos": 62.78, "fours twos taps": 7.744, "fours twos groups": 12.22},
            "code_bytes": {"call": 976.8, "padded": 40.89, "windows": 399.4, "rest": 0.268},
            "constant_bytes": {"call": 5.506, "channels": 3.58, "twos": 32.88, "weights": 0.02212, "twos taps": 0.9695, "quads taps": 0.01531, "taps": 1.973},
        },
        "depthwise_conv2d_c": {
            "instructions": {"outputs": 17.92, "output window rows": 2.971, "macs": 3.137, "padded outputs": 8.22, "padded window rows": 0.1898, "border taps": 7.511},
            "code_bytes": {"call": 463.2, "padded": 736.5, "windows": 57.69},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "depthwise_line_m3": {
            "instructions": {"rows": 27.66, "channels": 52.55, "channels rows": 12.68, "channels rows columns": 0.7958, "moved channels rows": 64.68, "moved channels rows columns": 7.286, "outputs": 31.28},
            "code_bytes": {"call": 443.1, "padded": 175.5},
            "constant_bytes": {"channels": 25},
        },
        "fully_connected_c": {
            "instructions": {"outputs": 30.2, "macs": 2.667},
            "code_bytes": {"call": 547.8},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "fully_connected_fours_m3": {
            "instructions": {"pixels quads": 23.04, "pixels quads taps": 9.621, "outputs": 6.714, "odd pixels quads taps": 2.055, "rest outputs": 3.554, "odd rest outputs": 1.033},
            "code_bytes": {"call": 392.8, "odd": 82.99, "rest": 10.18},
            "constant_bytes": {"call": 2.626, "quads": 61.17, "weights": 0.007882, "twos taps": 0.01472, "quads taps": 0.9823, "octads taps": 0.002602},
        },
        "add_saturated_m3": {
            "instructions": {"call": 14.15, "outputs": 6.269, "first outputs": 0.7059},
            "code_bytes": {"call": 514.9},
            "constant_bytes": {},
        },
        "add_weighted": {
            "instructions": {"call": 10.26, "limited": 1.487, "outputs": 6.966, "limited outputs": 3.554},
            "code_bytes": {"call": 202},
            "constant_bytes": {},
        },
    },
    "m0": {
        "conv2d_c": {
            "instructions": {"outputs": 74.4, "macs": 6.257, "odd macs": 0.4116, "window rows": 27.62, "gathered": 0.1683, "border taps": 3.545, "odd gathered": 1.376},
            "code_bytes": {"call": 558.4, "padded": 107.7, "windows": 727.6},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "conv2d_eights_m0": {
            "instructions": {"sought pixels": 90.6, "pixels octads": 156.6, "pixels octads taps": 9.209, "pixels octads groups": 37.3},
            "code_bytes": {"call": 426, "padded": 676, "rest": 156},
            "constant_bytes": {"quads": 61.94, "octads": 97.82, "octads taps": 2.551},
        },
        "conv2d_octets": {
            "instructions": {"call": 70.06, "pixels": 33.95, "packed": 3.389, "sought pixels": 103.2, "window rows": 52.17, "border taps": 14.12, "eights channels": 149.1, "eights channels taps": 10.91, "eights channels groups": 32.46},
            "code_bytes": {"call": 1066, "windows": 667.1},
            "constant_bytes": {"channels": 22.09, "weights": 0.9857, "quads taps": 0.02453, "taps": 1.936},
        },
        "depthwise_conv2d_c": {
            "instructions": {"outputs": 55.5, "macs": 7.627, "padded pixels": 19.35, "padded outputs": 14.89, "border taps": 5.36},
            "code_bytes": {"call": 380.7, "padded": 672.7, "windows": 60.3},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "depthwise_line_m0": {
            "instructions": {"rows": 5.184, "channels": 96.86, "channels rows": 11.65, "moved channels rows": 105.8, "moved channels rows columns": 4.106, "outputs": 64.07},
            "code_bytes": {"call": 428.1, "padded": 209.1, "odd": 0.8884},
            "constant_bytes": {"octads": 28.29, "weights": 2.854},
        },
        "fully_connected_c": {
            "instructions": {"outputs": 75.87, "macs": 6.345},
            "code_bytes": {"call": 703.5},
            "constant_bytes": {"channels": 9, "weights": 1},
        },
        "fully_connected_fours_m0": {
            "instructions": {"pixels quads": 33.53, "pixels quads taps": 15.46, "outputs": 18.36, "odd pixels quads taps": 5.2, "rest outputs": 1.112},
            "code_bytes": {"call": 489.7, "odd": 77.84, "rest": 17.89},
            "constant_bytes": {"call": 0.03093, "quads": 79.64, "weights": 0.02679, "quads taps": 0.9706, "octads taps": 0.006622, "taps": 0.0937},
        },
    },
}  # fmt: skip
