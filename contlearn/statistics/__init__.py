"""Statistics that several rooms need, each once: pure functions with their sources.

`exact` tests, corrections for `several` tests, `intervals`, the paired `bootstrap`, `calibration`
of confidences, `scores` of a softmax, and the distance of `shares`.
"""
