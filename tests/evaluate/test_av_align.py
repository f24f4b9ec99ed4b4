"""AV-Align as the authors' code has it."""

from __future__ import annotations

import numpy as np
import pytest

from jointdit.evaluate.av_align import Peaks, _opened, av_align, find_peaks, flow_peaks, flow_speeds
from jointdit.media import Clip, read_clip


def peaks(seen: list[float], heard: list[float], fps: float = 10) -> Peaks:
    return Peaks(np.array(seen), np.array(heard), fps)


def test_each_onset_takes_the_first_free_peak_less_than_a_frame_away():
    assert av_align(*[peaks([1.0, 2.0], [1.05, 2.09])] * 2) == 1
    assert av_align(*[peaks([1.0, 2.0], [1.05, 2.1])] * 2) == pytest.approx(1 / 3)  # 0.1 s is not less
    assert av_align(*[peaks([1.0], [0.95, 1.05])] * 2) == pytest.approx(1 / 2)
    # The first onset takes the peak that the second needs: a matching of most pairs would find two.
    assert av_align(*[peaks([1.0, 1.15], [1.08, 0.95])] * 2) == pytest.approx(1 / 3)
    assert np.isnan(av_align(*[peaks([], [])] * 2)) and av_align(*[peaks([], [1.0])] * 2) == 0


def test_peaks_of_the_flow_are_strict_maxima_of_a_tenth_of_a_pixel():
    assert flow_peaks([0.5, 0.5, 0.2, 0.9, 0.1, 0.05, 0.09, 0.0, 0.3, 0.3, 0.1, 0.8], 10) == [0.3]


def test_the_pictures_of_a_file_are_those_that_opencv_reads(tmp_path):
    """As the authors' code reads them: their colours are not rounded as other decoders do it."""
    cv2 = pytest.importorskip("cv2")
    pytest.importorskip("librosa")
    rng = np.random.default_rng(0)
    frames = np.kron(rng.integers(0, 256, (12, 8, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8)
    path = tmp_path / "clip.mp4"
    Clip(frames, 6, rng.normal(0, 0.1, (1, 32_000)).astype(np.float32), 16_000).save(path)
    clip = read_clip(path)

    video, grey, speeds = cv2.VideoCapture(str(path)), [], []
    while (read := video.read())[0]:
        grey.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2GRAY))
    for one, two in zip(grey, grey[1:], strict=False):
        flow = cv2.calcOpticalFlowFarneback(one, two, None, 0.5, 3, 15, 3, 5, 1.2, 0)
        speeds.append(np.hypot(flow[..., 0], flow[..., 1]).mean())
    opened = flow_speeds(_opened(path, 2.0)[1])
    assert opened == pytest.approx([speeds[0], *speeds], rel=1e-4)
    assert opened != pytest.approx(flow_speeds(clip.frames), rel=1e-4)
    assert len(flow_speeds(_opened(path, 1.0)[1])) == 6
    assert list(find_peaks(clip, path).seen) == flow_peaks(opened, 6.0)

    lost = find_peaks(clip, tmp_path / "no such file.mp4")
    assert np.array_equal(lost.seen, find_peaks(clip).seen) and lost.fps == 6


def test_a_moving_square_and_clicks_are_found_by_opencv_and_librosa():
    pytest.importorskip("cv2")
    pytest.importorskip("librosa")
    frames = np.full((30, 64, 64, 3), 60, np.uint8)
    texture = np.random.default_rng(0).integers(0, 256, (24, 24, 3)).astype(np.uint8)
    at = 8
    for index in range(30):
        at += 4 if index in (10, 20) else 0
        frames[index, 20:44, at : at + 24] = texture
    sound = np.zeros((1, 48_000), np.float32)
    for second in (1.0, 2.0):
        sound[0, round(16_000 * second) : round(16_000 * second) + 400] = np.hanning(400)
    found = find_peaks(Clip(frames, 10, sound, 16_000))
    assert found.seen == pytest.approx([1.0, 2.0])
    assert found.heard == pytest.approx([1.0, 2.0], abs=0.05)
    assert av_align(found, found) == 1
