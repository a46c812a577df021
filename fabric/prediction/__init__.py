"""Prediction: the next seven days' reads of every object, from three global models and their recent accuracy.

A *window* is the last 63 whole days of daily figures. An *origin* is a day on which a forecast is made from the days
before it; its *horizon* is the seven days from it on. An *outcome* is a forecast whose horizon has passed, beside what
came.
"""
