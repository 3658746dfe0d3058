"""Records with thresholds and operating points whose numbers are known."""

from __future__ import annotations

from builders.made_records import made

from bench.store.calibration import Calibration, Hindsight, ImagePoint, OperatingPoints, PixelPoint, Share
from bench.store.record import Record


def points(images: int, alarms: int, found: int, threshold: float, normal: int = 20) -> OperatingPoints:
    image = ImagePoint(
        threshold=threshold, false_alarms=Share(count=alarms, of=normal), found=Share(count=found, of=40)
    )
    pixel = PixelPoint(
        threshold=threshold / 2,
        f1=0.2 + threshold / 10,
        marked=0.01,
        missed={"<0.1%": Share(count=3, of=4), "0.1-1%": Share(count=1, of=10), ">=1%": Share(count=0, of=0)},
    )
    return OperatingPoints(
        images=images,
        image={"q0.95": image, "max": image},
        pixel={"q0.95": pixel, "max": pixel},
        hindsight=Hindsight(
            false_alarms_at_recall={"0.95": Share(count=2, of=normal), "1": Share(count=9, of=normal)},
            found_at_false_alarms={"0.01": Share(count=30, of=40), "0.05": Share(count=36, of=40)},
            f1_pooled=0.6,
            f1_by_image=0.7,
        ),
    )


def calibrated(classes: tuple[str, ...] = ("bottle", "screw")) -> Record:
    counts = {"bottle": (10, 1, 38, 1.0), "screw": (30, 3, 20, 3.0)}
    record = made(levels={cls: 0.9 for cls in classes})
    return record.model_copy(
        update={
            "calibration": Calibration(
                share=0.1,
                scores={cls: {f"{cls}/{place}": 0.5 for place in range(counts[cls][0])} for cls in classes},
                classes={cls: points(*counts[cls]) for cls in classes},
                pooled=points(40, 6, 50 - 11, 2.0, normal=40) if len(classes) > 1 else None,
            )
        }
    )
