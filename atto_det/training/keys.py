"""The training keys that this project adds to Detectron2's, for the configs of both engines.

With the defaults here, each of them is off.
"""

# Those of Detectron2's names in DATALOADER.SAMPLER_TRAIN that are supported here.
REPEATING = "RepeatFactorTrainingSampler"
SAMPLERS = ("TrainingSampler", REPEATING)

AUTO = "auto"  # a value of SOLVER.ACCUMULATE

KEYS = {
    "DATASETS": {
        # This many pictures of the first set in TRAIN, drawn by SEED, are held out of training and
        # form the data set <name>_held_out. It selects the best model and stops the training
        # (TEST.PATIENCE); the sets in TEST are then evaluated only after the last step.
        "HOLD_OUT": 0,
    },
    "INPUT": {
        # Large-scale jitter (arXiv 2012.07177), replaces MIN_SIZE_TRAIN and MAX_SIZE_TRAIN: the
        # picture is fitted into SIZE (height, width), then scaled by a factor from SCALE_RANGE. If
        # it is then larger than SIZE, it is cropped at a random place; if smaller, it is padded on
        # the right and at the bottom.
        "LSJ": {"ENABLED": False, "SCALE_RANGE": (0.1, 2.0), "SIZE": (1024, 1024)},
        # Copy-paste (arXiv 2012.07177): the probability that a picture receives objects of another
        # picture, of any set in DATASETS.TRAIN, each of them with a chance of one half. An object
        # whose visible share falls below MIN_VISIBLE is dropped.
        "COPY_PASTE": {"PROBABILITY": 0.0, "MIN_VISIBLE": 0.1},
        # Factors of brightness, contrast and saturation from [1 - value, 1 + value]; shifts of the
        # hue from [-value, value], where 0.5 is half the colour circle.
        "COLOR_JITTER": {"BRIGHTNESS": 0.0, "CONTRAST": 0.0, "SATURATION": 0.0, "HUE": 0.0},
    },
    "SOLVER": {
        # The pictures of each step are processed in this many parts, one after the other, and the
        # gradients averaged, which saves memory. Batch norm uses the statistics of a part. "auto":
        # as few parts as the memory of the machine that starts the run allows, kept on resume.
        "ACCUMULATE": 1,
        # Decay of an exponential moving average of the weights, such as 0.999. The average is what
        # is evaluated and saved; 0: none. See `atto_det.training.averaging`.
        "EMA": {"DECAY": 0.0},
    },
    "TEST": {
        # Stop after this many evaluations in a row without a better AP; 0: never.
        "PATIENCE": 0,
    },
}
