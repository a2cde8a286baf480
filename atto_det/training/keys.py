"""The keys of training that this project adds to Detectron2's, for the configs of both engines.

With the values here each of them is off.
"""

# Detectron2's names of the samplers that there are here, in DATALOADER.SAMPLER_TRAIN.
REPEATING = "RepeatFactorTrainingSampler"
SAMPLERS = ("TrainingSampler", REPEATING)

AUTO = "auto"  # of SOLVER.ACCUMULATE

KEYS = {
    "DATASETS": {
        # So many pictures of the first set in TRAIN, drawn by SEED, are not trained on but make up
        # the data set <name>_held_out. By them the best model is chosen, and training stopped
        # (TEST.PATIENCE); those in TEST are evaluated only after the last step.
        "HOLD_OUT": 0,
    },
    "INPUT": {
        # Large-scale jitter (arXiv 2012.07177), in place of MIN_SIZE_TRAIN and MAX_SIZE_TRAIN: the
        # picture, fitted into SIZE (height, width), times a scale from SCALE_RANGE. What is larger
        # than SIZE then is cropped at a place that is drawn, what is smaller is padded to the right
        # and below.
        "LSJ": {"ENABLED": False, "SCALE_RANGE": (0.1, 2.0), "SIZE": (1024, 1024)},
        # Copy-paste (arXiv 2012.07177): the probability that a picture gets objects of another one,
        # each of them with a chance of a half. An object of which less than the share MIN_VISIBLE
        # stays visible is dropped.
        "COPY_PASTE": {"PROBABILITY": 0.0, "MIN_VISIBLE": 0.1},
        # Factors of brightness, contrast and saturation from [1 - value, 1 + value]; turns of the
        # hue from [-value, value], 0.5 being half the circle.
        "COLOR_JITTER": {"BRIGHTNESS": 0.0, "CONTRAST": 0.0, "SATURATION": 0.0, "HUE": 0.0},
    },
    "SOLVER": {
        # Each step's pictures are trained on in so many parts, one after the other, whose gradients
        # are averaged, which saves memory. Batch norm has the statistics of a part. "auto": as few
        # parts as memory allows on the machine that starts the run, kept when it is resumed.
        "ACCUMULATE": 1,
        # An exponential moving average of the weights, such as 0.999, which is evaluated and saved
        # in their place; 0: none. See `atto_det.training.averaging`.
        "EMA": {"DECAY": 0.0},
    },
    "TEST": {
        # Stop when so many evaluations in a row found no better AP than one before; 0: never.
        "PATIENCE": 0,
    },
}
