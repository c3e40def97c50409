"""What users hold: plain values, without behaviour beyond looking into themselves."""
